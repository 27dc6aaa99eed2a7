/* backup.c - the sources of backups: their records, what is due, and what of it runs. */
#include "continuity/continuity_shell.h"
#include <stdlib.h>

#define UNAVAILABLE REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE

struct backups {
    struct continuity *c;
};

struct backups *backups_open(struct continuity *c, struct err *e)
{
    struct backups *b = calloc(1, sizeof *b);
    if (b)
        b->c = c;
    else
        err_set(e, "out of memory");
    return b;
}

void backups_close(struct backups *b)
{
    free(b);
}

void backups_seen(struct backups *b, const PB(BackupState) * s)
{
    (void)b;
    (void)s;
}

void backups_tick(struct backups *b, int64_t now_ms)
{
    (void)b;
    (void)now_ms;
}

void backups_reload(struct backups *b)
{
    (void)b;
}

void backups_command(struct backups *b, const char *verb, const PB(ContinuityCommand) * cmd, const char *reply)
{
    service_reply(continuity_service_of(b->c), reply, UNAVAILABLE, 0, "%s: there is no backup source `%s`", verb,
                  cmd->name);
}

size_t backups_states(const struct backups *b, const PB(BackupState) * *ret, size_t max)
{
    (void)b;
    (void)ret;
    (void)max;
    return 0;
}

bool backups_point(const struct backups *b, enum set_objective rpo, int64_t *ret_point_ms, int64_t *ret_expected_ms,
                   const char **ret_source)
{
    (void)b;
    (void)rpo;
    (void)ret_point_ms;
    (void)ret_expected_ms;
    (void)ret_source;
    return false;
}
