/* What the tests themselves rest on: one that hangs is ended, and named. */
#define _POSIX_C_SOURCE 200809L

#include "check.h"

#include <stdlib.h>
#include <sys/types.h>
#include <sys/wait.h>

/* runs `hang` in a child under the name "a_test" for a second at most; returns how the child ended, and what it said */
static int ended_by(void (*hang)(void), char *text, size_t size) {
    int ends[2], status = 0;
    CHECK(pipe(ends) == 0, "pipe");
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        check_watch("a_test", 1);
        hang();
        _exit(0);
    }
    close(ends[1]);
    size_t used = 0;
    for (ssize_t count; used + 1 < size && (count = read(ends[0], text + used, size - used - 1)) > 0;) {
        used += (size_t)count;
    }
    text[used] = 0;
    close(ends[0]);
    CHECK(waitpid(child, &status, 0) == child, "waitpid");
    return status;
}

static void spin(void) {
    static atomic_int never;
    while (!atomic_load(&never)) {
    }
}

static void wait_for_ever(void) {
    for (;;) {
        pause();
    }
}

static void return_at_once(void) {}

static void a_test_that_hangs_is_ended_and_named(void) {
    void (*const hangs[])(void) = {spin, wait_for_ever};
    char text[200];
    for (int i = 0; i < 2; i++) {
        int status = ended_by(hangs[i], text, sizeof text);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM, "status %#x", (unsigned)status);
        CHECK(strcmp(text, "FAILED  hangs    a_test\n") == 0, "it said: %s", text);
    }
    int status = ended_by(return_at_once, text, sizeof text);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0 && !text[0], "status %#x: %s", (unsigned)status, text);
}

int main(void) {
    RUN(a_test_that_hangs_is_ended_and_named);
    return check_result();
}
