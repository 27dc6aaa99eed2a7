/* cmd_rollback.c - redoubt rollback start, plan, hold, resume, abort, emergency, run: what orders something. */
#include "audit/audit_query.h"
#include "cli/cmd.h"
#include "cli/rollback_ask.h"
#include "cli/rollback_follow.h"
#include "cli/rollback_view.h"
#include "cli/status_view.h"
#include "common/clock.h"
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define JOB_MAX      64
#define NAME_IN_ID   40   /* of the deployment's name in an id that is made up */
#define AGAIN_MS     2000 /* run: an order that was answered with "not now", or not at all, is given again after this */
#define STATUS(x)    REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_##x
#define WHO_REQUIRED "--by NAME and --reason TEXT are required: they land in the audit trail"

/* The id is the same when the order is given again: by it the service knows that it is the same order. */
static void make_id(const char *deployment, char id[static JOB_MAX + 1])
{
    char at[CLOCK_TEXT_MAX], digits[16];
    size_t n = 0;
    clock_text(clock_wall_ms(), at);
    for (const char *p = at; *p && *p != '.' && n + 1 < sizeof digits; p++)
        if (*p >= '0' && *p <= '9')
            digits[n++] = *p;
    digits[n] = 0;
    snprintf(id, JOB_MAX + 1, "%.*s-%s-%08x", NAME_IN_ID, deployment, digits, randombytes_random());
}

/* A pod's name is the same after its container was restarted, and never used twice. */
static const char *id_of_environment(void)
{
    const char *given = getenv("REDOUBT_JOB_ID"), *pod = getenv("HOSTNAME");
    if (given && *given)
        return given;
    return getenv("KUBERNETES_SERVICE_HOST") && pod && *pod ? pod : NULL;
}

static bool id_ok(const char *id)
{
    size_t n = strlen(id);
    return n >= 1 && n <= JOB_MAX &&
           strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") == n;
}

/* A name of Kubernetes may hold dots and be longer than an id: what an id cannot hold becomes `-`, and the end is kept, which is what tells pods apart. */
static void fit_id(const char *from, char id[static JOB_MAX + 1])
{
    size_t n = strlen(from);
    snprintf(id, JOB_MAX + 1, "%s", n > JOB_MAX ? from + n - JOB_MAX : from);
    for (char *p = id; *p; p++)
        if (*p == '.')
            *p = '-';
}

/* Fills the order from the options; an exit code if they are wrong. id holds its id. */
static int read_order(struct cli *c, const struct opts_rollback *o, const char *deployment,
                      char id[static JOB_MAX + 1], PB(RollbackCommand) * ret)
{
    int code = CLI_OK;
    *ret = (PB(RollbackCommand))REDOUBT__V1__ROLLBACK_COMMAND__INIT;
    if (!rollback_name_ok(c, deployment, &code))
        return code;
    if (o->tainted != (o->since != NULL))
        return cli_fail(c, CLI_USAGE,
                        "--tainted and --since TIME go together: since when are the data not to be trusted?");
    if (o->tainted && o->restore)
        return cli_fail(c, CLI_USAGE,
                        "--tainted looks for the snapshot by itself; --restore names one: give one of them");
    if (o->since && (ret->tainted_since_unix_ms = audit_query_time(o->since, clock_wall_ms())) < 0)
        return cli_fail(c, CLI_USAGE,
                        "--since: found `%s`; allowed: 2026-01-31, 2026-01-31T09:05:01Z, or how long ago: 24h",
                        o->since);
    snprintf(id, JOB_MAX + 1, "%s", o->id ? o->id : "");
    if (o->id && !id_ok(o->id))
        return cli_fail(c, CLI_USAGE, "--id: found `%s`; allowed: 1 to %d of [A-Za-z0-9_-]", o->id, JOB_MAX);
    ret->deployment = (char *)deployment;
    ret->by = (char *)(o->by ? o->by : "");
    ret->reason = (char *)(o->reason ? o->reason : "");
    ret->to_version = (char *)(o->to ? o->to : "");
    ret->restore_snapshot = (char *)(o->restore ? o->restore : "");
    ret->emergency = o->emergency;
    ret->force = o->force;
    ret->tainted = o->tainted;
    ret->job_id = id;
    return CLI_OK;
}

static void print_json(const void *message)
{
    json_t *j = status_message_json(message);
    json_dumpf(j, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(j);
}

/* ---- plan ---- */

static int plan(struct cli_link *k, const PB(RollbackCommand) * order, bool json)
{
    PB(CommandReply) *r = NULL;
    char text[1100];
    struct err e = {""};
    int code = cli_ask(k, "rollback", "plan", order, &r);
    if (code != CLI_OK)
        return code;
    /* There may be a plan although it would be refused now: both are told. */
    PB(RollbackPlan) *p = NULL;
    if ((r->status == STATUS(OK) || r->payload.len > 0) &&
        !(p = wire_unpack(PB_DESC(rollback_plan), r->payload.data, r->payload.len, &e)))
        code = cli_fail(k->c, CLI_FAILED, "the answer cannot be read: %s", e.text);
    else if (p && json)
        print_json(p);
    for (size_t i = 0; p && !json && i < p->n_lines; i++)
        printf("%2zu. %s\n", i + 1, term_clean(p->lines[i], 0, text, sizeof text));
    if (code == CLI_OK && r->status != STATUS(OK))
        code = cli_said(k, r);
    else if (p && !json)
        term_print(&k->c->out, TERM_DIM, "This is the plan; nothing was done.\n");
    wire_free(p);
    wire_free(r);
    return code;
}

int cmd_rollback_plan(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    const struct opts_rollback *o = opts;
    char id[JOB_MAX + 1];
    PB(RollbackCommand) order;
    struct cli_link link;
    int code = read_order(c, o, argv[0], id, &order);
    if (code != CLI_OK)
        return code;
    code = cli_link_open(&link, c);
    if (code == CLI_OK)
        code = plan(&link, &order, o->json);
    cli_link_close(&link);
    return code;
}

/* ---- start ---- */

static int said(struct cli_link *k, const PB(CommandReply) * r, const PB(RollbackCommand) * order, bool json)
{
    bool good = r->status == STATUS(OK) || r->status == STATUS(ALREADY);
    if (!good || !json) {
        int code = cli_said(k, r);
        if (good)
            term_print(&k->c->out, TERM_DIM, "job %s; `redoubt rollback watch %s` follows it\n", order->job_id,
                       order->deployment);
        return code;
    }
    PB(RollbackChanged) *doc = rollback_of_reply(r);
    if (doc)
        print_json(doc);
    wire_free(doc);
    return CLI_OK;
}

int cmd_rollback_start(struct cli *c, const void *opts, int argc, char **argv)
{
    const struct opts_rollback *o = opts;
    if (o->dry_run)
        return cmd_rollback_plan(c, opts, argc, argv);
    char id[JOB_MAX + 1];
    PB(RollbackCommand) order;
    PB(CommandReply) *r = NULL;
    struct cli_link link;
    int code = read_order(c, o, argv[0], id, &order);
    if (code == CLI_OK && (!o->by || !o->reason))
        code = cli_fail(c, CLI_USAGE, WHO_REQUIRED);
    if (code != CLI_OK)
        return code;
    code = cli_link_open(&link, c);
    if (code == CLI_OK && !*id)
        make_id(argv[0], id);
    if (code == CLI_OK)
        code = cli_ask_again(&link, "rollback", "start", &order, &r);
    if (code == CLI_OK)
        code = said(&link, r, &order, o->json && !o->follow);
    wire_free(r);
    if (code == CLI_OK && o->follow) {
        const struct rollback_follow_opts f = {
            .json = o->json, .in_place = true, .hold_limit_ms = -1, .lost_limit_ms = -1};
        code = rollback_follow(&link, argv[0], id, &f);
    }
    cli_link_close(&link);
    return code;
}

/* ---- hold, resume, abort, emergency ---- */

int cmd_rollback_order(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    const struct opts_rollback *o = opts;
    char id[JOB_MAX + 1];
    PB(RollbackCommand) order;
    struct cli_link link;
    int code = read_order(c, o, argv[0], id, &order);
    if (code == CLI_OK && (!o->by || !o->reason))
        code = cli_fail(c, CLI_USAGE, WHO_REQUIRED);
    if (code != CLI_OK)
        return code;
    code = cli_link_open(&link, c);
    /* Each of them may be ordered twice: the second time it was so already. */
    if (code == CLI_OK)
        code = cli_insist(&link, "rollback", strrchr(c->row->path, ' ') + 1, &order);
    if (code == CLI_OK && o->follow) {
        const struct rollback_follow_opts f = {.in_place = true, .hold_limit_ms = -1, .lost_limit_ms = -1};
        code = rollback_follow(&link, argv[0], id, &f);
    }
    cli_link_close(&link);
    return code;
}

/* ---- run ---- */

static void wait_ms(struct cli_link *k, int64_t ms)
{
    int64_t until = clock_mono_ms() + ms;
    bool never = false;
    while (!k->interrupted && clock_mono_ms() < until)
        loop_run_until(&k->loop, &never, 100);
}

/* The job was begun, and refused when it was looked at closely: that is its end, and not a wrong order. */
static bool ended_refused(const PB(CommandReply) * r, const char *id)
{
    PB(RollbackChanged) *doc = rollback_of_reply(r);
    bool refused = doc && rollback_view_fate(doc, id, NULL) == ROLLBACK_FATE_REFUSED;
    wire_free(doc);
    return refused;
}

/* Gives the order until it is taken or refused, or the time is over: a Job may start before the suite does. */
static int begin(struct cli_link *k, const PB(RollbackCommand) * order, int64_t limit_ms)
{
    int64_t until = clock_mono_ms() + limit_ms;
    char said[1100] = "";
    for (;;) {
        PB(CommandReply) *r = NULL;
        char text[1100];
        int code = cli_ask_again(k, "rollback", "start", order, &r);
        bool later = code == CLI_UNREACHABLE || (r && r->status == STATUS(UNAVAILABLE));
        bool again = later && !k->interrupted && clock_mono_ms() < until;
        if (code == CLI_OK && again) {
            if (strcmp(term_clean(r->message, 0, text, sizeof text), said) != 0)
                cli_fail(k->c, 0, "not now: %s; trying again", text);
            memcpy(said, text, sizeof said);
        } else if (code == CLI_OK && ended_refused(r, order->job_id)) {
            code = CLI_OK; /* followed, which tells its end */
        } else if (code == CLI_OK) {
            code = cli_said(k, r);
        }
        wire_free(r);
        if (!again)
            return code;
        wait_ms(k, AGAIN_MS);
    }
}

/* The bus may not be there yet either. */
static int open_link(struct cli_link *k, struct cli *c, int64_t limit_ms)
{
    int64_t until = clock_mono_ms() + limit_ms;
    for (;;) {
        int code = cli_link_open(k, c);
        if (code != CLI_UNREACHABLE || k->interrupted || clock_mono_ms() >= until)
            return code;
        cli_link_close(k);
    }
}

int cmd_rollback_run(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    const struct opts_rollback *o = opts;
    char id[JOB_MAX + 1];
    const char *named = id_of_environment();
    PB(RollbackCommand) order;
    struct cli_link link;
    int code = read_order(c, o, argv[0], id, &order);
    bool aborts = strcmp(o->on_hold, "abort") == 0;
    if (code == CLI_OK && !aborts && strcmp(o->on_hold, "exit") != 0)
        code = cli_fail(c, CLI_USAGE, "--on-hold: found `%s`; allowed: exit, abort", o->on_hold);
    if (code == CLI_OK && (!o->by || !o->reason))
        code = cli_fail(c, CLI_USAGE, WHO_REQUIRED);
    if (code == CLI_OK && !*id && named)
        fit_id(named, id);
    if (code == CLI_OK && *id && !id_ok(id))
        code = cli_fail(c, CLI_USAGE, "$REDOUBT_JOB_ID: found `%s`; allowed: 1 to %d of [A-Za-z0-9_-]", id, JOB_MAX);
    if (code != CLI_OK)
        return code;
    code = open_link(&link, c, o->lost_limit_ms);
    if (code == CLI_OK && !*id)
        make_id(argv[0], id);
    if (code == CLI_OK)
        code = begin(&link, &order, o->lost_limit_ms);
    if (code == CLI_OK) {
        const struct rollback_follow_opts f = {.json = o->json,
                                               .hold_limit_ms = o->hold_limit_ms,
                                               .abort_on_hold = aborts,
                                               .by = o->by,
                                               .lost_limit_ms = o->lost_limit_ms,
                                               .must_be_current = true};
        code = rollback_follow(&link, argv[0], id, &f);
    }
    cli_link_close(&link);
    return code;
}
