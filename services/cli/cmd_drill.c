/* cmd_drill.c - redoubt drill: play a story, or end a stack that one has left. */
#include "cli/cmd.h"
#include "cli/drill_stories.h"
#include <stdlib.h>
#include <string.h>

/* Their names are the last words of the rows. */
static const struct drill_story *const stories[] = {&drill_llm_outage};

int cmd_drill(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc, (void)argv;
    const struct opts_drill *o = opts;
    const char *name = strrchr(c->row->path, ' ') + 1, *keep = getenv("KEEP");
    for (size_t i = 0; i < sizeof stories / sizeof stories[0]; i++)
        if (strcmp(stories[i]->name, name) == 0)
            return drill_run(c, stories[i], o->keep || (keep && *keep), o->bin_dir, o->json);
    return cli_fail(c, CLI_USAGE, "no such drill");
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
