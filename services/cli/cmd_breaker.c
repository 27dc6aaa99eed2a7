/* cmd_breaker.c - redoubt breaker: what the breakers say, and a person's word on one. */
#include "cli/cmd.h"
#include "cli/event_line.h"
#include "cli/present.h"
#include "cli/status_view.h"
#include <string.h>

static void print_detail(const PB(BreakerChanged) * b)
{
    char span[32], until[EVENT_TIME_MAX];
    int64_t now = clock_wall_ms();
    printf("\nepoch %llu, %s for %s by %s, opened %u times without staying closed\n", (unsigned long long)b->epoch,
           EVENT_NAME(breaker_state, b->state), cli_span(now - b->since_unix_ms, span, sizeof span),
           EVENT_NAME(breaker_reason, b->reason), b->open_count);
    if (b->totals)
        printf("window: %u calls, %u failures (%u in a row), %u slow, %u reporters, %u of them with failures\n",
               b->totals->calls, b->totals->failures, b->totals->consecutive_failures, b->totals->slow,
               b->totals->reporters, b->totals->failing_reporters);
    if (b->permit && b->permit->id)
        printf("permit %llu is held by %s until %s\n", (unsigned long long)b->permit->id, b->permit->holder,
               event_time(b->permit->expires_unix_ms, now, until));
    if (b->evidence_unix_ms)
        printf("first evidence: %s\n", event_time(b->evidence_unix_ms, now, until));
}

static json_t *breakers_json(const struct status_model *m)
{
    json_t *list = json_array();
    for (size_t i = 0; i < m->n_targets; i++)
        if (m->targets[i].breaker)
            json_array_append_new(list, status_message_json(m->targets[i].breaker));
    return list;
}

int cmd_breaker_show(struct cli *c, const void *opts, int argc, char **argv)
{
    const struct opts_show *o = opts;
    const char *target = argc ? argv[0] : NULL;
    struct cli_link link;
    struct present p = {0};
    int code = cli_link_open(&link, c);
    if (code == CLI_OK && (code = present_open(&p, &link, PRESENT_BREAKERS | PRESENT_HEALTH)) == CLI_OK) {
        struct status_model *m = &p.model, one = {0};
        if (!target)
            present_add_settings(&p);
        for (size_t i = 0; target && i < m->n_targets; i++)
            if (strcmp(m->targets[i].name, target) == 0)
                one = (struct status_model){.targets = &m->targets[i], .n_targets = 1};
        const struct status_model *shown = target ? &one : m;
        if (target && (one.n_targets == 0 || !one.targets[0].breaker)) {
            code = cli_fail(c, CLI_REFUSED, "nothing is known of a breaker for %s; `redoubt breaker show` lists them",
                            target);
        } else if (o->json) {
            json_t *j = target ? status_message_json(one.targets[0].breaker) : breakers_json(m);
            json_dumpf(j, stdout, JSON_COMPACT);
            putchar('\n');
            json_decref(j);
        } else {
            status_print_targets(shown, &c->out, clock_wall_ms());
            if (target)
                print_detail(one.targets[0].breaker);
        }
    }
    present_close(&p);
    cli_link_close(&link);
    return code;
}

int cmd_breaker_order(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    const struct opts_order *o = opts;
    if (!o->by || !o->reason)
        return cli_fail(c, CLI_USAGE, "--by NAME and --reason TEXT are required: they land in the audit trail");
    PB(BreakerCommand) m = REDOUBT__V1__BREAKER_COMMAND__INIT;
    m.target = argv[0];
    m.by = (char *)o->by;
    m.reason = (char *)o->reason;
    m.duration_ms = (uint64_t)o->for_ms;
    return cli_give(c, "breaker", strrchr(c->row->path, ' ') + 1, &m);
}
