/* cmd_alert.c - redoubt alert test: one alert by one channel, and whether it was accepted. */
#include "cli/cli_bus.h"
#include "cli/cmd.h"
#include <stdlib.h>

/* A channel that does not accept is a failed test, not a refusal to test. */
static int verdict(struct cli *c, const PB(CommandReply) * r)
{
    char text[1100];
    term_clean(r->message, 0, text, sizeof text);
    switch (r->status) {
    case REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK:
        printf("%s\n", text);
        return CLI_OK;
    case REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE:
        return cli_fail(c, CLI_FAILED, "%s", text);
    default:
        return cli_fail(c, CLI_REFUSED, "refused: %s", text);
    }
}

int cmd_alert_test(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    const struct opts_alert *o = opts;
    const char *user = getenv("USER");
    PB(AlertCommand) a = REDOUBT__V1__ALERT_COMMAND__INIT;
    PB(CommandReply) *reply = NULL;
    a.channel = argv[0];
    a.by = (char *)(o->by ? o->by : user && *user ? user : "operator");
    struct cli_link link;
    int code = cli_link_open(&link, c);
    if (code == CLI_OK && (code = cli_ask(&link, "alert", "test", &a, &reply)) == CLI_OK)
        code = verdict(c, reply);
    wire_free(reply);
    cli_link_close(&link);
    return code;
}
