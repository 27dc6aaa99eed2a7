/* alert_ask.c - asks the alert service, and reads receipts off the stream of events. */
#include "cli/alert_ask.h"
#include "cli/status_view.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define PAGE         500
#define RECEIPTS_MAX 10000
#define ACK_PENDING  500
#define IDLE_NS      30000000000LL /* the server forgets our consumer this long after we are gone */
#define RECEIPTS_MS  15000
#define BEFORE_MS    60000 /* clocks differ */

void alert_print_json(const void *message)
{
    json_t *j = status_message_json(message);
    json_dumpf(j, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(j);
}

void *alert_ask(struct cli_link *k, const char *verb, const PB(AlertCommand) * m,
                const ProtobufCMessageDescriptor *desc, int *ret)
{
    PB(CommandReply) *r = NULL;
    struct err e = {""};
    char text[1100];
    void *got = NULL;
    *ret = cli_ask(k, "alert", verb, m, &r);
    if (*ret != CLI_OK)
        return NULL;
    if (r->status != REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK)
        *ret = cli_fail(k->c, CLI_REFUSED, "refused: %s", term_clean(r->message, 0, text, sizeof text));
    else if (r->payload.len == 0)
        got = protobuf_c_message_unpack(desc, NULL, 0, NULL);
    else if (!(got = wire_unpack(desc, r->payload.data, r->payload.len, &e)))
        *ret = cli_fail(k->c, CLI_FAILED, "the answer cannot be read: %s", e.text);
    wire_free(r);
    return got;
}

/* ---- problems ---- */

int alert_ask_all(struct cli_link *k, bool resolved, size_t most, struct alert_problems *ret)
{
    PB(AlertCommand) m = REDOUBT__V1__ALERT_COMMAND__INIT;
    char after[65] = "";
    int code = CLI_OK;
    *ret = (struct alert_problems){0};
    m.resolved = resolved;
    do {
        m.limit = (uint32_t)(most - ret->n < PAGE ? most - ret->n : PAGE);
        m.after = after;
        PB(ProblemList) *l = alert_ask(k, "list", &m, PB_DESC(problem_list), &code);
        if (!l)
            return code;
        PB(ProblemChanged) **more = realloc(ret->at, (ret->n + l->n_problems + 1) * sizeof *more);
        if (!more)
            abort();
        ret->at = more;
        ret->total = l->total;
        for (size_t i = 0; i < l->n_problems; i++)
            more[ret->n++] = l->problems[i];
        l->n_problems = 0; /* they are ours now */
        snprintf(after, sizeof after, "%s", l->next);
        wire_free(l);
    } while (*after && ret->n < most && !k->interrupted);
    return code;
}

void alert_problems_free(struct alert_problems *p)
{
    for (size_t i = 0; i < p->n; i++)
        wire_free(p->at[i]);
    free(p->at);
}

/* ---- receipts ---- */

struct reading {
    struct cli_link *k;
    const char *dedup_key;
    struct alert_receipts *out;
    bool done;
    char why[256];
};

/* The number of messages behind this one: last token of the reply subject of a delivery (one more may follow in newer servers). */
static bool pending_of(const char *reply, uint64_t *ret)
{
    const char *tokens[16];
    size_t n = 0;
    for (const char *p = reply; p && n < 16; p = strchr(p, '.'), p = p ? p + 1 : NULL)
        tokens[n++] = p;
    if (!reply || strncmp(reply, "$JS.ACK.", 8) != 0 || (n != 9 && n < 11))
        return false;
    *ret = strtoull(tokens[n == 9 ? 8 : 10], NULL, 10);
    return true;
}

static void on_receipt(void *ctx, const struct bus_msg *m)
{
    struct reading *g = ctx;
    uint64_t pending;
    if (g->done || !pending_of(m->reply, &pending))
        return;
    struct bus_out ack = {.subject = m->reply, .data = "+ACK", .len = 4};
    (void)bus_publish(g->k->bus, &ack, NULL);
    PB(DeliveryReceipt) *r = wire_unpack(PB_DESC(delivery_receipt), m->data, m->len, NULL);
    bool wanted = r && strcmp(r->dedup_key, g->dedup_key) == 0;
    if (wanted && g->out->n < RECEIPTS_MAX) {
        PB(DeliveryReceipt) **more = realloc(g->out->at, (g->out->n + 1) * sizeof *more);
        if (!more)
            abort();
        g->out->at = more;
        more[g->out->n++] = r;
    } else {
        g->out->cut = g->out->cut || wanted;
        wire_free(r);
    }
    g->done = pending == 0;
}

static void on_created(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct reading *g = ctx;
    json_t *j = st == BUS_OK ? json_loadb(m->data, m->len, 0, NULL) : NULL;
    const json_t *pending = json_object_get(j, "num_pending");
    const json_t *sent = json_object_get(json_object_get(j, "delivered"), "consumer_seq");
    const char *why = json_string_value(json_object_get(json_object_get(j, "error"), "description"));
    if (!pending) {
        snprintf(g->why, sizeof g->why, "%s", why ? why : bus_status_text(st));
        g->done = true;
    } else if (json_integer_value(pending) == 0 && json_integer_value(sent) == 0) {
        g->done = true; /* there is nothing */
    }
    json_decref(j);
}

int alert_receipts_read(struct cli_link *k, const char *dedup_key, int64_t since_unix_ms, struct alert_receipts *ret)
{
    *ret = (struct alert_receipts){0};
    struct reading g = {.k = k, .dedup_key = dedup_key, .out = ret};
    char inbox[SUBJECT_MAX_LEN], since[CLOCK_TEXT_MAX], why[512];
    cli_inbox(k, inbox);
    struct bus_sub *sub = bus_subscribe(k->bus, inbox, NULL, on_receipt, &g);
    clock_text(since_unix_ms > BEFORE_MS ? since_unix_ms - BEFORE_MS : 0, since);
    json_t *config = json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:I, s:s}", "deliver_subject", inbox, "deliver_policy",
                               "by_start_time", "opt_start_time", since, "ack_policy", "explicit", "replay_policy",
                               "instant", "max_ack_pending", ACK_PENDING, "inactive_threshold", (json_int_t)IDLE_NS,
                               "filter_subject", SUBJECT_DELIVERY ">");
    json_t *body = json_pack("{s:s, s:o}", "stream_name", STREAM_EVENTS, "config", config);
    char *text = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    if (!sub || !text)
        abort();
    bus_request(
        k->bus,
        &(struct bus_out){.subject = "$JS.API.CONSUMER.CREATE." STREAM_EVENTS, .data = text, .len = strlen(text)},
        k->c->timeout_ms, on_created, &g);
    free(text);
    bool whole = loop_run_until(&k->loop, &g.done, RECEIPTS_MS);
    bus_unsubscribe(sub);
    if (*g.why)
        return cli_fail(k->c, CLI_FAILED, "receipts cannot be read from stream " STREAM_EVENTS ": %s",
                        term_clean(g.why, 0, why, sizeof why));
    ret->cut = ret->cut || !whole;
    return CLI_OK;
}

void alert_receipts_free(struct alert_receipts *r)
{
    for (size_t i = 0; i < r->n; i++)
        wire_free(r->at[i]);
    free(r->at);
}
