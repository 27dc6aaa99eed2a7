/* rollback_view.h - a deployment's document in words: pure. No I/O, no clock, no allocation; texts are not yet cleaned for a terminal, unless said. */
#ifndef REDOUBT_CLI_ROLLBACK_VIEW_H
#define REDOUBT_CLI_ROLLBACK_VIEW_H

#include "cli/term.h"
#include "common/wire.h"

#define ROLLBACK_VIEW_TEXT 1024 /* enough for every text of this file */
#define ROLLBACK_VIEW_NAME 132
#define ROLLBACK_VIEW_BAR  24 /* columns between the brackets */

/* How the job `id` ("" = the present one) stands by this document. */
enum rollback_fate {
    ROLLBACK_FATE_UNKNOWN, /* it is not in there: not begun yet, or so long ago that it is forgotten */
    ROLLBACK_FATE_UNDER_WAY,
    ROLLBACK_FATE_HOLDS,
    ROLLBACK_FATE_DONE,
    ROLLBACK_FATE_ABORTED,
    ROLLBACK_FATE_REFUSED,
};
/* *ret_reason (may be NULL): why it holds or how it ended; points into m. */
enum rollback_fate rollback_view_fate(const PB(RollbackChanged) * m, const char *id, const char **ret_reason);
bool rollback_view_over(enum rollback_fate f);
/* Is a job under way, also one that holds? */
bool rollback_view_busy(const PB(RollbackChanged) * m);
enum term_colour rollback_view_colour(const PB(RollbackChanged) * m);

const PB(DeployedVersion) *
    rollback_view_version(const PB(RollbackChanged) * m, const char *id); /* NULL if not there */
/* How a command names the version: by its name, or by its id if a shell would read the name as something else. */
const char *rollback_view_handle(const PB(DeployedVersion) * v);
/* What people call the version; its id if nothing is known of it, "-" for none. */
const char *rollback_view_name(const PB(RollbackChanged) * m, const char *id);
/* What a rollback without --to would go back to; NULL if there is nothing. */
const PB(DeployedVersion) * rollback_view_last_verified(const PB(RollbackChanged) * m);
bool rollback_view_broken(const PB(DeployedVersion) * v);       /* it could not be brought up */
const char *rollback_view_state(const PB(DeployedVersion) * v); /* for a table */
/* Snapshots that belong to a version. */
size_t rollback_view_snapshots(const PB(RollbackChanged) * m, const char *version_id);

/* "v2  50 % [############------------]  50 % v1": the share of each version. Clean. */
char *rollback_view_bar(const PB(RollbackChanged) * m, char buf[static ROLLBACK_VIEW_TEXT]);
/* "[########----------------]  36 %". Clean. */
char *rollback_view_progress_bar(unsigned percent, char buf[static ROLLBACK_VIEW_TEXT]);
/* How much of the planned time is over, 0 to 100, and what is left of it at least (-1 = that cannot be said: it holds, or goes back). */
unsigned rollback_view_progress(const PB(RollbackChanged) * m, int64_t now_unix_ms, int64_t *ret_left_ms);

/* Where the job is: "SHIFT, step 3 of 5: observed". The same text as long as nothing but time has passed. */
char *rollback_view_where(const PB(RollbackChanged) * m, char buf[static ROLLBACK_VIEW_TEXT]);
/* What it is waiting for or doing now, with times: "12.0 s of 30.0 s". */
char *rollback_view_now(const PB(RollbackChanged) * m, int64_t now_unix_ms, char buf[static ROLLBACK_VIEW_TEXT]);
/* One line for a change, as `tail` and `watch` show it: where, shares, why. */
char *rollback_view_line(const PB(RollbackChanged) * m, char buf[static ROLLBACK_VIEW_TEXT]);
/* What is not normal about this deployment; false if nothing is. */
bool rollback_view_problem(const PB(RollbackChanged) * m, char buf[static ROLLBACK_VIEW_TEXT]);
/* The i-th command by which a person goes on from here, with what it does; false if there is none. Clean. */
bool rollback_view_next(const PB(RollbackChanged) * m, size_t i, char buf[static ROLLBACK_VIEW_TEXT]);
/* "sha256:0123456789ab": what people tell digests apart by. */
const char *rollback_view_digest(const char *digest, char buf[static ROLLBACK_VIEW_NAME]);

#endif
