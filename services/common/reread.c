/* reread.c - a service's own settings file, read again when a configuration is accepted. */
#include "common/reread.h"
#include "common/log.h"
#include "common/subjects.h"
#include <string.h>

void reread_note(struct reread *r, const char *path)
{
    r->path = path;
    (void)sha256_file(path, r->sha256);
}

static void on_config(void *ctx, const struct bus_msg *m)
{
    struct reread *r = ctx;
    struct err e = {""};
    char sha256[SHA256_TEXT];
    PB(ConfigState) *c = wire_unpack(PB_DESC(config_state), m->data, m->len, &e);
    if (!c) {
        service_bad_input(r->s, SUBJECT_CONTINUITY_CONFIG, m, e.text);
        return;
    }
    /* On another host it may be another file, or not there yet: then this is not for us. */
    if (!r->s->draining && strcmp(c->sha256, r->sha256) != 0 && sha256_file(r->path, sha256) &&
        strcmp(c->sha256, sha256) == 0) {
        log_info("the settings were changed", F_STR("commit", c->commit), F_STR("by", c->by),
                 F_STR("reason", c->reason));
        r->again(r->s);
    }
    wire_free(c);
}

int reread_open(struct reread *r, struct service *s, void (*again)(struct service *s), struct err *e)
{
    r->s = s;
    r->again = again;
    r->watch = bus_watch(s->bus, SUBJECT_CONTINUITY_CONFIG, 0, on_config, NULL, r);
    return r->watch ? 0 : err_set(e, "cannot subscribe to %s", SUBJECT_CONTINUITY_CONFIG);
}

void reread_close(struct reread *r)
{
    bus_watch_close(r->watch);
    r->watch = NULL;
}
