/* What seldom runs is made for size. */
#ifndef CYL_RARE_H
#define CYL_RARE_H

/*
 * Before the declaration of what runs when a model or a workspace is made, or when the shape of a piece changes. The
 * compiler makes such a function for size, and with it each caller that cannot avoid it, like `prepare` and `bind` of
 * layers.
 */
#define CYL_RARE __attribute__((cold))

#endif
