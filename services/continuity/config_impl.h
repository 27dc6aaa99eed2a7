/* config_impl.h - what the config_*.c files share: the room, one change at a time, and answers. */
#ifndef REDOUBT_CONTINUITY_CONFIG_IMPL_H
#define REDOUBT_CONTINUITY_CONFIG_IMPL_H

#include "continuity/config_file.h"
#include "continuity/config_git.h"
#include "continuity/continuity_shell.h"

/* ConfigState.open_alerts */
enum { CONFIG_ALERT_INVALID = 1, CONFIG_ALERT_HISTORY = 2 };

#define CONFIG_WATCHED 3 /* the file, the baseline, its sign-off */
#define CONFIG_REPLY   256
#define CONFIG_TEXT    45000 /* of a diff, or of a page of history */

struct config_change; /* config_change.c */
struct config_room {
    struct continuity *c;
    struct config_git *git;      /* NULL = it could not be opened yet */
    char path[1024];             /* of the settings file */
    char work[600];              /* journal, and files that are handed in */
    char baseline[2][1100];      /* paths; "" = none */
    struct config_git_entry tip; /* id "" = no commit yet */
    uint64_t bytes;              /* of the file in it */
    bool ready;                  /* the history is open and its newest commit known */
    bool opening, committing, closing;
    int64_t look_ms, retry_ms; /* when next */
    struct config_stamp before[CONFIG_WATCHED], done[CONFIG_WATCHED];
    int64_t judged_ms; /* an invalid file, last */
    unsigned alerts;
    char problem[600]; /* why the file is not accepted; "" = it is */
    PB(ConfigState) * state;
    uint64_t revision;
    int64_t checked_ms; /* the history itself */
    struct config_change *change;
};

/* ---- config_room.c ---- */
void config_room_announce(struct config_room *r);
/* Raised or over, once each. */
void config_room_alert(struct config_room *r, unsigned bit, bool on, const char *detail);
/* Commits the file as it is; told once, later: "" = done, and announced. s = what it says, for the baseline. */
typedef void (*config_committed)(struct config_room *r, const char *error);
void config_room_commit(struct config_room *r, const struct config_text *file, const struct settings *s,
                        const char *by, const char *reason, config_committed done);
/* The file is as it should be: what was looked at needs no second look. */
void config_room_settled(struct config_room *r);

/* ---- config_change.c: apply, rollback ---- */
void config_change_begin(struct config_room *r, bool rollback, const PB(ContinuityCommand) * cmd, const char *reply);
/* A journal that somebody left: finished or undone. True = it is in hand now. */
bool config_change_resume(struct config_room *r);
void config_change_close(struct config_room *r);

/* ---- config_ask.c: history, diff, put ---- */
void config_ask_history(struct config_room *r, const PB(ContinuityCommand) * cmd, const char *reply);
void config_ask_diff(struct config_room *r, const PB(ContinuityCommand) * cmd, const char *reply);
void config_ask_put(struct config_room *r, const PB(ContinuityCommand) * cmd, const char *reply);
/* Where a file that was handed in stands. */
void config_ask_path(const struct config_room *r, const char *sha256, char *buf, size_t size);
/* Cut at the end of a line, as an answer. The text is in the message until the next call with it. */
void config_ask_diff_of(PB(ConfigDiff) * ret, char *text);

/* ---- config_say.c ---- */
/* Answers once. payload NULL = none. */
__attribute__((format(printf, 5, 6))) void config_answer(struct config_room *r, const char *reply, int status,
                                                         const void *payload, const char *fmt, ...);
#define CONFIG_OK          REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK
#define CONFIG_ALREADY     REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_ALREADY
#define CONFIG_INVALID     REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID
#define CONFIG_UNAVAILABLE REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE

#endif
