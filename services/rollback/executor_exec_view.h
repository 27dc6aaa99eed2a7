/* executor_exec_view.h - what the exec executor's `view` program prints: validated whole, then taken. Pure. */
#ifndef REDOUBT_EXECUTOR_EXEC_VIEW_H
#define REDOUBT_EXECUTOR_EXEC_VIEW_H

#include "common/err.h"
#include "rollback/rollback_executor.h"

#define EXEC_VERSIONS 16
#define EXEC_SPEC_MAX 49152

struct exec_view {
    struct executor_instance instances[EXECUTOR_INSTANCES];
    size_t n;
    struct executor_version versions[EXEC_VERSIONS];
    size_t n_versions;
};
/* -1 with the reason in e (what, where, what is allowed); *v is empty then. */
int exec_view_read(const char *text, size_t len, struct exec_view *v, struct err *e);
void exec_view_done(struct exec_view *v); /* frees what it holds */

#endif
