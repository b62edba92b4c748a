/*
 * A plugin of QEMU's that counts the instructions of one emulated thread: at each system call 0xC1C it prints those
 * since the one before, "block ADDRESS COUNT" for each translated block that ran and "instructions COUNT" for all.
 * The declarations stand in for qemu-plugin.h, which Debian's package leaves out.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
typedef void (*TranslationCallback)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*SyscallCallback)(qemu_plugin_id_t, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                                uint64_t, uint64_t, uint64_t);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, TranslationCallback);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int operation, void *counter, uint64_t);
extern void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, SyscallCallback);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

enum { ADD_U64 = 0, MARK = 0xC1C };

/* a translated block; those that QEMU has thrown away stay in the list, since they may have run */
typedef struct Block Block;
struct Block {
    uint64_t address, size, runs, runs_before;
    Block *next;
};
static Block *blocks;

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *translation) {
    (void)id;
    Block *block = calloc(1, sizeof *block);
    if (!block) {
        abort();
    }
    block->address = qemu_plugin_tb_vaddr(translation);
    block->size = qemu_plugin_tb_n_insns(translation);
    block->next = blocks;
    blocks = block;
    qemu_plugin_register_vcpu_tb_exec_inline(translation, ADD_U64, &block->runs, 1);
}

static void called(qemu_plugin_id_t id, unsigned cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
    (void)id, (void)cpu, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number != MARK) {
        return;
    }
    uint64_t all = 0;
    for (Block *block = blocks; block; block = block->next) {
        uint64_t count = (block->runs - block->runs_before) * block->size;
        block->runs_before = block->runs;
        all += count;
        if (count) {
            fprintf(stderr, "block %" PRIx64 " %" PRIu64 "\n", block->address, count);
        }
    }
    fprintf(stderr, "instructions %" PRIu64 "\n", all);
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc,
                                                               char **argv) {
    (void)info, (void)argc, (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
