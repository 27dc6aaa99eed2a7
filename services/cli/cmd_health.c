/* cmd_health.c - redoubt health: what the watchers say, a maintenance and its end, a probe at once. */
#include "cli/cmd.h"
#include "cli/event_line.h"
#include "cli/present.h"
#include "cli/status_view.h"
#include <inttypes.h>
#include <string.h>

static void print_line(const struct term *t, const char *text)
{
    char clean[1200];
    fprintf(t->file, "%s\n", term_clean(text, 0, clean, sizeof clean));
}

static void print_detail(const struct term *t, const PB(HealthChanged) * h, const char *own)
{
    char text[1200], span[32], at[EVENT_TIME_MAX];
    int64_t now = clock_wall_ms();
    snprintf(text, sizeof text, "epoch %" PRIu64 ", %s for %s, announced by %s", h->epoch,
             EVENT_NAME(health_state, h->state), cli_span(now - h->since_unix_ms, span, sizeof span), h->observer);
    fputc('\n', t->file);
    print_line(t, text);
    if (h->maintenance_until_unix_ms) {
        snprintf(text, sizeof text, "maintenance until %s", event_time(h->maintenance_until_unix_ms, now, at));
        print_line(t, text);
    }
    if (*h->suppressed_by) {
        snprintf(text, sizeof text, "nobody is alerted because of it while %s is down", h->suppressed_by);
        print_line(t, text);
    }
    for (size_t i = 0; i < h->n_votes; i++) {
        const PB(HealthVote) *v = h->votes[i];
        snprintf(text, sizeof text, "vote of %s at %s: %s (%s)", v->observer, event_time(v->seen_unix_ms, now, at),
                 EVENT_NAME(health_state, v->state), EVENT_NAME(probe_fault, v->fault));
        print_line(t, text);
    }
    for (size_t i = 0; i < h->n_evidence; i++) {
        const PB(ProbeResult) *r = h->evidence[i];
        snprintf(text, sizeof text, "%s %s %s in %u ms%s%s", event_time(r->ended_unix_ms, now, at),
                 EVENT_NAME(probe_kind, r->kind), EVENT_NAME(probe_fault, r->fault), r->total_ms,
                 *r->detail ? ": " : "", r->detail);
        print_line(t, text);
    }
    if (own && *own) {
        snprintf(text, sizeof text, "the replica that was asked thinks: %s", own);
        print_line(t, text);
    }
}

static json_t *all_json(const struct status_model *m)
{
    json_t *list = json_array();
    for (size_t i = 0; i < m->n_targets; i++)
        if (m->targets[i].health)
            json_array_append_new(list, status_message_json(m->targets[i].health));
    return list;
}

static void print_json(const struct term *t, json_t *j)
{
    json_dumpf(j, t->file, JSON_COMPACT);
    fputc('\n', t->file);
    json_decref(j);
}

/* One target: asked of the service itself, which also knows what is not announced yet. */
static int show_one(struct cli_link *k, const char *target, bool json)
{
    struct cli *c = k->c;
    PB(HealthCommand) q = REDOUBT__V1__HEALTH_COMMAND__INIT;
    PB(CommandReply) *r = NULL;
    q.target = (char *)target;
    int code = cli_ask(k, "health", "show", &q, &r);
    if (code != CLI_OK)
        return code;
    PB(HealthChanged) *h =
        r->payload.len ? wire_unpack(PB_DESC(health_changed), r->payload.data, r->payload.len, NULL) : NULL;
    if (r->status != REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK) {
        code = cli_fail(c, CLI_REFUSED, "refused: %s", r->message);
    } else if (json) {
        print_json(&c->out, h ? status_message_json(h) : json_null());
    } else if (h) {
        struct status_model one = {0};
        status_target(&one, target)->health = h;
        status_print_targets(&one, &c->out, clock_wall_ms());
        print_detail(&c->out, h, r->message);
        h = NULL; /* the model's */
        status_free(&one);
    } else {
        char text[1200];
        snprintf(text, sizeof text, "%s: nothing is announced yet; the replica that was asked thinks: %s", target,
                 r->message);
        print_line(&c->out, text);
    }
    wire_free(h);
    wire_free(r);
    return code;
}

int cmd_health_show(struct cli *c, const void *opts, int argc, char **argv)
{
    const struct opts_show *o = opts;
    struct cli_link link;
    struct present p = {0};
    int code = cli_link_open(&link, c);
    if (code == CLI_OK && argc) {
        code = show_one(&link, argv[0], o->json);
    } else if (code == CLI_OK && (code = present_open(&p, &link, PRESENT_HEALTH | PRESENT_BREAKERS)) == CLI_OK) {
        present_add_settings(&p);
        if (o->json)
            print_json(&c->out, all_json(&p.model));
        else
            status_print_targets(&p.model, &c->out, clock_wall_ms());
    }
    present_close(&p);
    cli_link_close(&link);
    return code;
}

int cmd_health_order(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    const struct opts_order *o = opts;
    const char *verb = strrchr(c->row->path, ' ') + 1;
    if (!o->by || !o->reason)
        return cli_fail(c, CLI_USAGE, "--by NAME and --reason TEXT are required: they land in the audit trail");
    if (strcmp(verb, "maintain") == 0 && o->for_ms == 0)
        return cli_fail(c, CLI_USAGE, "--for TIME is required: a maintenance always has an end");
    PB(HealthCommand) m = REDOUBT__V1__HEALTH_COMMAND__INIT;
    m.target = argv[0];
    m.by = (char *)o->by;
    m.reason = (char *)o->reason;
    m.duration_ms = (uint64_t)o->for_ms;
    return cli_give(c, "health", verb, &m);
}

int cmd_health_probe(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)opts;
    (void)argc;
    PB(HealthCommand) m = REDOUBT__V1__HEALTH_COMMAND__INIT;
    m.target = argv[0];
    return cli_give(c, "health", "probe", &m);
}
