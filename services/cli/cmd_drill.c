/* cmd_drill.c - redoubt drill: play a story, or end a stack that one has left. */
#include "cli/cmd.h"
#include "cli/drill_llm_outage.h"
#include <stdlib.h>

int cmd_drill_llm_outage(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc, (void)argv;
    const struct opts_drill *o = opts;
    struct drill_llm_outage state = {0};
    const char *keep = getenv("KEEP");
    return drill_run(c, &drill_llm_outage, &state, o->keep || (keep && *keep), o->bin_dir, o->json);
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
