/* cmd_report.c - redoubt report: says how calls to a target ended, as an agent or gateway would. */
#include "cli/cli_bus.h"
#include "cli/cmd.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define BATCH_MAX 1000 /* of the contract */

/* "timeout", "rate-limited": the outcome's name in any case, - for _. */
static bool parse_outcome(const char *text, Redoubt__V1__Outcome *ret)
{
    const ProtobufCEnumDescriptor *d = &redoubt__v1__outcome__descriptor;
    char name[32];
    snprintf(name, sizeof name, "%s", text);
    for (char *p = name; *p; p++)
        if (*p == '-')
            *p = '_';
    for (unsigned i = 0; i < d->n_values; i++) {
        int v = d->values[i].value;
        if (v != 0 && strcasecmp(wire_enum_name(d, v), name) == 0) {
            *ret = (Redoubt__V1__Outcome)v;
            return true;
        }
    }
    return false;
}

static int publish(struct cli_link *k, const char *subject, const void *message)
{
    struct err e;
    size_t len;
    void *data = wire_pack(message, &len, &e);
    if (!data)
        return cli_fail(k->c, CLI_USAGE, "%s", e.text);
    struct bus_out o = {.subject = subject, .type = wire_type(message), .data = data, .len = len};
    int bad = bus_publish(k->bus, &o, &e);
    free(data);
    return bad ? cli_fail(k->c, CLI_FAILED, "%s", e.text) : CLI_OK;
}

static int send_all(struct cli_link *k, const PB(OutcomeReport) * one, int64_t count)
{
    char subject[SUBJECT_MAX_LEN];
    snprintf(subject, sizeof subject, SUBJECT_REPORT "%s", one->target);
    if (count == 1)
        return publish(k, subject, one);
    PB(OutcomeReport) * same[BATCH_MAX];
    for (size_t i = 0; i < BATCH_MAX; i++)
        same[i] = (PB(OutcomeReport) *)one;
    int code = CLI_OK;
    /* Fewer to a batch than the contract allows, so that long names do not make it too large for one message. */
    for (int64_t left = count; left > 0 && code == CLI_OK;) {
        PB(OutcomeBatch) b = REDOUBT__V1__OUTCOME_BATCH__INIT;
        b.n_reports = left < 200 ? (size_t)left : 200;
        b.reports = same;
        code = publish(k, subject, &b);
        left -= (int64_t)b.n_reports;
    }
    return code;
}

int cmd_report(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    const struct opts_report *o = opts;
    PB(OutcomeReport) r = REDOUBT__V1__OUTCOME_REPORT__INIT;
    if (!name_target_ok(argv[0]))
        return cli_fail(c, CLI_USAGE, "`%s` is no target: names of [a-z0-9_-] joined by dots", argv[0]);
    if (!parse_outcome(argv[1], &r.outcome))
        return cli_fail(c, CLI_USAGE, "`%s` is no outcome; see `redoubt help report`", argv[1]);
    r.target = argv[0];
    r.reporter = (char *)o->reporter;
    r.total_ms = (uint32_t)o->total_ms;
    r.status_code = (uint32_t)o->status;
    r.retry_after_ms = (uint32_t)o->retry_after_ms;
    r.ended_unix_ms = clock_wall_ms();
    r.data_path = true;
    struct cli_link link;
    int code = cli_link_open(&link, c);
    if (code == CLI_OK)
        code = send_all(&link, &r, o->count);
    cli_link_close(&link);
    if (code == CLI_OK)
        printf("sent %lld %s of %s to the breaker\n", (long long)o->count, o->count == 1 ? "report" : "reports",
               argv[0]);
    return code;
}
