/* cmd_rollback_watch.c - redoubt rollback watch: a rollback as it goes on, until it ends. */
#include "cli/cmd.h"
#include "cli/rollback_follow.h"

int cmd_rollback_watch(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    const struct opts_rollback *o = opts;
    const struct rollback_follow_opts f = {
        .json = o->json, .in_place = !o->lines, .hold_limit_ms = o->no_wait ? 0 : -1, .lost_limit_ms = -1};
    struct cli_link link;
    int code = cli_link_open(&link, c);
    if (code == CLI_OK)
        code = rollback_follow(&link, argv[0], "", &f);
    cli_link_close(&link);
    return code;
}
