/* rollback_follow.h - follows one job to its end, through lost connections and restarts of the service: draws it in place, or prints a line per change. */
#ifndef REDOUBT_CLI_ROLLBACK_FOLLOW_H
#define REDOUBT_CLI_ROLLBACK_FOLLOW_H

#include "cli/cli_bus.h"

struct rollback_follow_opts {
    bool json;             /* each document as it comes, one a line */
    bool in_place;         /* draw, if stdout is a terminal */
    int64_t hold_limit_ms; /* how long it may hold; -1 = as long as it takes */
    bool abort_on_hold;    /* then it is aborted, in the name of `by`, and followed to that end */
    const char *by;
    int64_t lost_limit_ms; /* how long neither bus nor service need be heard; -1 = for ever */
    bool must_be_current;  /* DONE counts only if the target is the deployment's current version then */
};
/* job "" = the present one, or, if none is under way, the last: then it ends at once. The exit code: 0 = DONE, 1 = ABORTED, REFUSED or holds too long;
 * 3 = its end was not seen: not heard for too long, or interrupted. What came of it is said. */
int rollback_follow(struct cli_link *k, const char *deployment, const char *job,
                    const struct rollback_follow_opts *o);

#endif
