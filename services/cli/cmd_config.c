/* cmd_config.c - redoubt config: is this file right, and what does it come to. */
#include "cli/cli_bus.h"
#include "cli/cmd.h"
#include "common/settings.h"

int cmd_config_check(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)opts;
    const char *path = argc ? argv[0] : cli_config_path(c);
    struct settings *s = cli_settings_of(c, path);
    if (!s)
        return CLI_USAGE;
    printf("%s: good: %zu targets, %zu agents, %zu alert channels\n", path, s->targets.n, s->agents.n,
           s->alert.channels.n);
    settings_free(s);
    return CLI_OK;
}

static void print_line(void *ctx, const char *line)
{
    (void)ctx;
    puts(line);
}

int cmd_config_show(struct cli *c, const void *opts, int argc, char **argv)
{
    const struct opts_config *o = opts;
    struct settings *s = cli_settings_of(c, argc ? argv[0] : cli_config_path(c));
    if (!s)
        return CLI_USAGE;
    conf_show(&settings_schema, s, o->help_text, print_line, NULL);
    settings_free(s);
    return CLI_OK;
}
