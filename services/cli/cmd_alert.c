/* cmd_alert.c - redoubt alert test, channels: one alert by one channel, and how all channels are doing. */
#include "cli/alert_ask.h"
#include "cli/cmd.h"
#include "cli/event_line.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

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

/* ---- channels ---- */

static void print_channels(const PB(AlertReport) * r, const struct term *t)
{
    static const struct term_column columns[] = {{"CHANNEL", false}, {"KIND", false},      {"STATE", false},
                                                 {"WAITING", true},  {"ACCEPTED", true},   {"FAILED", true},
                                                 {"LAST", true},     {"LAST ERROR", false}};
    int64_t now = clock_wall_ms();
    char span[32], text[600];
    struct term_table *tab = term_table_begin(columns, 8);
    for (size_t i = 0; i < r->n_channels; i++) {
        const PB(ChannelReport) *c = r->channels[i];
        bool ok = strcmp(c->circuit, "OK") == 0, broken = strcmp(c->circuit, "BROKEN") == 0;
        term_cell(tab, TERM_BOLD, "%s", c->name);
        term_cell(tab, TERM_PLAIN, "%s", term_clean(c->kind, 0, text, sizeof text));
        term_cell(tab,
                  ok       ? TERM_GREEN
                  : broken ? TERM_RED
                           : TERM_YELLOW,
                  "%s", term_clean(c->circuit, 0, text, sizeof text));
        term_cell(tab, TERM_PLAIN, "%u", c->waiting + c->running);
        term_cell(tab, TERM_PLAIN, "%" PRIu64, c->accepted);
        term_cell(tab, TERM_PLAIN, "%" PRIu64, c->failed);
        term_cell(tab, TERM_PLAIN, "%s",
                  c->last_accepted_unix_ms ? cli_span(now - c->last_accepted_unix_ms, span, sizeof span) : "never");
        term_cell(tab, TERM_PLAIN, "%s", term_clean(c->last_error, 80, text, sizeof text));
    }
    term_table_end(tab, t, "");
    printf("%u problems, %u silences in force; %u alerts in hand", r->problems, r->silences, r->in_hand);
    for (size_t i = 0; i < r->n_parcels; i++)
        printf(", %s %s", term_clean(r->parcels[i]->value, 0, text, sizeof text), r->parcels[i]->key);
    putchar('\n');
    if (r->last_pulse_unix_ms)
        printf("last self-test that passed: %s ago\n",
               cli_span(now > r->last_pulse_unix_ms ? now - r->last_pulse_unix_ms : 0, span, sizeof span));
}

int cmd_alert_channels(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    const struct opts_show *o = opts;
    PB(AlertCommand) m = REDOUBT__V1__ALERT_COMMAND__INIT;
    m.limit = 1; /* a message of zeroes would be no message */
    struct cli_link link;
    int code = cli_link_open(&link, c);
    PB(AlertReport) *r = code == CLI_OK ? alert_ask(&link, "show", &m, PB_DESC(alert_report), &code) : NULL;
    if (r && o->json)
        alert_print_json(r);
    else if (r)
        print_channels(r, &c->out);
    wire_free(r);
    cli_link_close(&link);
    return code;
}
