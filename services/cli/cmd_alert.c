/* cmd_alert.c - redoubt alert test: one alert by one channel, and whether it was accepted. */
#include "cli/cli_bus.h"
#include "cli/cmd.h"
#include <sodium.h>
#include <stdlib.h>

int cmd_alert_test(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    const struct opts_alert *o = opts;
    const char *user = getenv("USER");
    if (!name_token_ok(argv[0]))
        return cli_fail(c, CLI_USAGE, "`%s` is no channel: a name of [a-z0-9_-]", argv[0]);
    char id[64], key[160], summary[256];
    PB(Label) label = REDOUBT__V1__LABEL__INIT;
    PB(Label) * labels[] = {&label};
    PB(Alert) a = REDOUBT__V1__ALERT__INIT;
    struct cli_link link;
    int code = cli_link_open(&link, c);
    if (code == CLI_OK) {
        snprintf(id, sizeof id, "test-%08x%08x", randombytes_random(), randombytes_random());
        snprintf(key, sizeof key, "test/%s", argv[0]);
        snprintf(summary, sizeof summary, "Test of channel %s by %s: nothing is wrong", argv[0],
                 o->by           ? o->by
                 : user && *user ? user
                                 : "an operator");
        label.key = (char *)"channel";
        label.value = argv[0];
        a.id = id;
        a.dedup_key = key;
        a.severity = REDOUBT__V1__SEVERITY__SEVERITY_INFO;
        a.source = (char *)"cli";
        a.summary = summary;
        a.labels = labels;
        a.n_labels = 1;
        a.raised_unix_ms = clock_wall_ms();
        code = cli_order(&link, "alert", "test", &a);
    }
    cli_link_close(&link);
    return code;
}
