/* cmd_config.c - redoubt config: is this file right, and what does it come to. */
#include "cli/cmd.h"
#include "common/settings.h"

static struct settings *load(struct cli *c, const char *path)
{
    struct conf_report report = {0};
    struct settings *s = settings_load(path, &report);
    for (size_t i = 0; i < report.n; i++)
        fprintf(stderr, "%s\n", report.lines[i]);
    if (!s && report.n == 0)
        cli_fail(c, 0, "cannot read %s", path);
    conf_report_free(&report);
    return s;
}

int cmd_config_check(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)opts;
    const char *path = argc ? argv[0] : cli_config_path(c);
    struct settings *s = load(c, path);
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
    struct settings *s = load(c, argc ? argv[0] : cli_config_path(c));
    if (!s)
        return CLI_USAGE;
    conf_show(&settings_schema, s, o->help_text, print_line, NULL);
    settings_free(s);
    return CLI_OK;
}
