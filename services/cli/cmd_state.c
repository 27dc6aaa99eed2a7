/* cmd_state.c - redoubt state save, restore, verify: NATS' streams and Redis' keys by hand. */
#include "cli/cli_bus.h"
#include "cli/recover.h"
#include "continuity/backup_nats.h"
#include "continuity/backup_redis.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const parts[] = {"nats", "redis"};
enum { NATS, REDIS, PARTS };
enum act { SAVE, RESTORE, VERIFY };

static const char *person(const char *given)
{
    const char *user = getenv("USER");
    return given && *given ? given : user && *user ? user : "operator";
}

static void verify(const char *dir, int part, struct recover_state_end *ret)
{
    struct err e = {""};
    int bad =
        part == NATS ? backup_nats_verify(dir, NULL, &ret->sum, &e) : backup_redis_verify(dir, NULL, &ret->sum, &e);
    ret->ok = bad == 0;
    snprintf(ret->text, sizeof ret->text, "%s", bad ? e.text : "as it was saved");
}

static void say(const struct cli *c, const char *part, const struct recover_state_end *r)
{
    term_print(&c->out, r->ok ? TERM_GREEN : TERM_RED, "%-6s", part);
    printf("%s%s\n", r->ok ? "" : "failed: ", r->text);
}

static json_t *as_json(const struct recover_state_end *r)
{
    return json_pack("{s:b, s:s, s:I, s:I, s:I}", "ok", r->ok, "text", r->text, "items", (json_int_t)r->sum.items,
                     "bytes", (json_int_t)r->sum.bytes, "savedUnixMs", (json_int_t)r->sum.saved_unix_ms);
}

static void record(const struct recover_state *x, const struct opts_state *o, bool ok)
{
    struct err e = {""};
    const char *reason = o->reason ? o->reason : "";
    if (recover_record(x, "state.restore", person(o->by), reason, ok,
                       x->force ? "streams and keys restored from a copy, what was there replaced"
                                : "streams and keys restored from a copy into empty servers",
                       &e))
        fprintf(stderr, "the trail has no record of this: %s\n", e.text);
}

static int run(struct cli *c, const struct opts_state *o, const char *dir, enum act act)
{
    json_t *json = json_object();
    const char *config = c->config_path ? c->config_path : c->nats_url && o->redis ? NULL : cli_config_path(c);
    bool ok = true, refused = false, changed = false;
    if (o->only && strcmp(o->only, "nats") != 0 && strcmp(o->only, "redis") != 0)
        return cli_fail(c, CLI_USAGE, "--only: found `%s`; allowed: nats, redis", o->only);
    if (act == SAVE && mkdir(dir, 0700) && errno != EEXIST)
        return cli_fail(c, CLI_FAILED, "cannot make %s: %s", dir, strerror(errno));
    struct recover_state x = {
        .c = c, .config = config, .nats = c->nats_url, .redis = o->redis, .force = o->force, .say = !o->json};
    for (int i = 0; i < PARTS; i++) {
        char path[PATH_MAX];
        struct recover_state_end end = {0};
        if (o->only && strcmp(o->only, parts[i]) != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, parts[i]);
        x.dir = path;
        if (act == VERIFY)
            verify(path, i, &end);
        else if (i == NATS)
            recover_nats(&x, act == RESTORE, &end);
        else
            recover_redis(&x, act == RESTORE, &end);
        ok = ok && end.ok;
        refused = refused || end.refused;
        changed = changed || (act == RESTORE && !end.refused);
        if (o->json)
            json_object_set_new(json, parts[i], as_json(&end));
        else
            say(c, parts[i], &end);
    }
    if (changed)
        record(&x, o, ok);
    if (o->json) {
        char *text = json_dumps(json, JSON_COMPACT);
        printf("%s\n", text ? text : "{}");
        free(text);
    }
    json_decref(json);
    return ok ? CLI_OK : refused ? CLI_REFUSED : CLI_FAILED;
}

int cmd_state_save(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    return run(c, opts, argv[0], SAVE);
}

int cmd_state_restore(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    return run(c, opts, argv[0], RESTORE);
}

int cmd_state_verify(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    return run(c, opts, argv[0], VERIFY);
}
