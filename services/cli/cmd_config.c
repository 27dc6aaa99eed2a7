/* cmd_config.c - redoubt config: is this file right, and what does it come to. */
#include "alert/alert_template.h"
#include "cli/cli_bus.h"
#include "cli/cmd.h"
#include "common/settings.h"

/* What no table of settings sees: programs inside of them. */
static bool templates_good(const char *path, const struct settings *s)
{
    struct conf_report report = {0};
    bool good = alert_template_check(s, &report);
    for (size_t i = 0; i < report.n; i++)
        fprintf(stderr, "%s: %s\n", path, report.lines[i]);
    conf_report_free(&report);
    return good;
}

/* How many there are. */
static size_t print_warnings(const char *path, const struct settings *s)
{
    struct conf_report report = {0};
    settings_warn(s, &report);
    size_t n = report.n;
    for (size_t i = 0; i < n; i++)
        fprintf(stderr, "%s: warning: %s\n", path, report.lines[i]);
    conf_report_free(&report);
    return n;
}

int cmd_config_check(struct cli *c, const void *opts, int argc, char **argv)
{
    const struct opts_config *o = opts;
    const char *path = argc ? argv[0] : cli_config_path(c);
    struct settings *s = cli_settings_of(c, path);
    if (!s)
        return CLI_USAGE;
    if (!templates_good(path, s)) {
        settings_free(s);
        return CLI_USAGE;
    }
    if (print_warnings(path, s) > 0 && o->strict) {
        settings_free(s);
        return CLI_USAGE;
    }
    printf("%s: good: %zu targets, %zu agents, %zu alert channels, %zu deployments\n", path, s->targets.n,
           s->agents.n, s->alert.channels.n, s->rollback.deployments.n);
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
