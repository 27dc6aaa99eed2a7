/* config_room.c - the configuration that is in force: every accepted change is a commit with who and why. */
#include "continuity/continuity_shell.h"
#include <stdlib.h>

struct config_room {
    struct continuity *c;
    PB(ConfigState) * state;
};

struct config_room *config_room_open(struct continuity *c, struct err *e)
{
    struct config_room *r = calloc(1, sizeof *r);
    if (!r) {
        (void)err_set(e, "out of memory");
        return NULL;
    }
    r->c = c;
    return r;
}

void config_room_close(struct config_room *r)
{
    if (!r)
        return;
    wire_free(r->state);
    free(r);
}

void config_room_seen(struct config_room *r, const PB(ConfigState) * s)
{
    (void)r, (void)s;
}

void config_room_tick(struct config_room *r, int64_t now_ms)
{
    (void)r, (void)now_ms;
}

void config_room_reload(struct config_room *r)
{
    (void)r;
}

void config_room_command(struct config_room *r, const char *verb, const PB(ContinuityCommand) * cmd,
                         const char *reply)
{
    (void)cmd;
    service_reply(continuity_service_of(r->c), reply, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE, 0,
                  "%s is not ready yet: ask again", verb);
}

const PB(ConfigState) * config_room_state(const struct config_room *r)
{
    return r->state;
}

void config_room_bundle(struct config_room *r, const char *dir,
                        void (*cb)(void *ctx, const char *path, const char *error), void *ctx)
{
    (void)r, (void)dir;
    cb(ctx, "", "the history of the configuration is not ready");
}
