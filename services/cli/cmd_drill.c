/* cmd_drill.c - redoubt drill: play a story, or end a stack that one has left. */
#include "cli/cmd.h"
#include "cli/drill_all.h"
#include "cli/drill_demo.h"
#include "cli/drill_live.h"
#include "cli/drill_stories.h"
#include <stdlib.h>
#include <string.h>

#define LIVE_FOR_MS   20000
#define LIVE_LIMIT_MS 300000

/* In the order in which `all` plays them. */
static const struct drill_story *const stories[] = {&drill_llm_outage,  &drill_backend_outage,
                                                    &drill_logic_error, &drill_resource_exhaustion,
                                                    &drill_partition,   &drill_agent_loss};
#define STORIES (sizeof stories / sizeof stories[0])

static const struct drill_story *story(const char *name)
{
    for (size_t i = 0; i < STORIES; i++)
        if (strcmp(stories[i]->name, name) == 0)
            return stories[i];
    return NULL;
}

static int live(struct cli *c, const struct opts_drill *o, const char *name)
{
    if (o->keep || o->bin_dir)
        return cli_fail(c, CLI_USAGE, "--keep and --bin-dir are for a private stack, not with --live");
    if (!o->target || !o->by || !o->reason)
        return cli_fail(c, CLI_USAGE,
                        "--live needs --target AGENT, --by NAME and --reason TEXT: they land in the audit trail");
    struct drill_live_order order = {.name = name,
                                     .target = o->target,
                                     .by = o->by,
                                     .reason = o->reason,
                                     .json = o->json,
                                     .yes = o->yes,
                                     .hold_ms = o->for_ms ? o->for_ms : LIVE_FOR_MS,
                                     .restored_ms = o->limit_ms ? o->limit_ms : LIVE_LIMIT_MS};
    return drill_live(c, &order);
}

static int only_live(const struct cli *c, const struct opts_drill *o)
{
    if (o->target || o->by || o->reason || o->yes || o->for_ms || o->limit_ms || c->config_path || c->nats_url)
        return cli_fail(c, CLI_USAGE,
                        "--target, --by, --reason, --yes, --for, --limit, -c and --nats are for --live; "
                        "without it a drill plays on a stack of its own");
    return CLI_OK;
}

int cmd_drill(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc, (void)argv;
    const struct opts_drill *o = opts;
    const char *name = strrchr(c->row->path, ' ') + 1, *keep = getenv("KEEP"); /* the row's last word */
    if (o->live)
        return live(c, o, name);
    int code = only_live(c, o);
    return code == CLI_OK ? drill_run(c, story(name), o->keep || (keep && *keep), o->bin_dir, o->json) : code;
}

int cmd_drill_all(struct cli *c, const void *opts, int argc, char **argv)
{
    const struct opts_drill_all *o = opts;
    const char *names[STORIES];
    size_t n = argc > 0 ? (size_t)argc : STORIES;
    if (n > STORIES)
        return cli_fail(c, CLI_USAGE, "each drill once at most");
    for (size_t i = 0; i < n; i++) {
        names[i] = argc > 0 ? argv[i] : stories[i]->name;
        if (!story(names[i]))
            return cli_fail(c, CLI_USAGE, "no such drill: %s", names[i]);
    }
    return drill_all(c, names, n, o->bin_dir, o->json);
}

int cmd_drill_demo(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc, (void)argv;
    const struct opts_drill_demo *o = opts;
    struct drill_demo_world w;
    struct err e = {""};
    if (!o->sims)
        return cli_fail(c, CLI_USAGE, "--sims is missing: whom the story tells to fail");
    if (drill_demo_world(o->sims, &w, &e))
        return cli_fail(c, CLI_USAGE, "%s", e.text);
    return drill_demo(c, &w, o->json);
}

int cmd_drill_stop(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)opts, (void)argc;
    struct err e = {""};
    int n = drill_stack_stop(argv[0], &e);
    if (n < 0)
        return cli_fail(c, CLI_FAILED, "%s", e.text);
    printf("ended %d process%s, removed %s\n", n, n == 1 ? "" : "es", argv[0]);
    return CLI_OK;
}

int cmd_drill_restart(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)opts, (void)argc;
    struct err e = {""};
    if (drill_stack_restart(argv[0], argv[1], &e))
        return cli_fail(c, CLI_FAILED, "%s", e.text);
    printf("restarted %s of %s\n", argv[1], argv[0]);
    return CLI_OK;
}
