/* tail.h - live events, decoded, and what the streams still hold of the past. */
#ifndef REDOUBT_CLI_TAIL_H
#define REDOUBT_CLI_TAIL_H

#include "cli/cli.h"

struct tail_opts {
    bool json, replay, all;
    int64_t count;    /* 0 = for ever */
    int64_t limit_ms; /* 0 = for ever */
};
/* subject NULL = everything of the suite, without heartbeats and reports unless `all`. Returns an exit code. */
int tail_run(struct cli *c, const char *subject, const struct tail_opts *o);

#endif
