/* settings_alert_check.c - what one row of `alert` cannot say: what a channel's type needs, names that must exist, groups that must end. */
#include "common/matcher.h"
#include "common/settings_impl.h"
#include "common/subjects.h"
#include "common/webhook_sign.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GROUP_DEPTH_MAX  8
#define GROUP_LEAVES_MAX 64
#define ROUTE_NODE       "route-" /* a route's own channels are called so, with its name */

/* ---- channels ---- */

static void check_address(struct conf_ctx *ctx, const char *key, const char *address)
{
    const char *at = strchr(address, '@');
    if (!at || at == address || !at[1] || strpbrk(address, " <>,;\"") || strchr(at + 1, '@'))
        conf_problem(ctx, key, "found `%s`; allowed: a plain address such as ops@example.org", address);
}

enum need { NO, MAY, MUST };
static const char *const smtp[] = {"smtp", "smtps", NULL}, *const web[] = {"http", "https", NULL},
                         *const logs[] = {"udp", "tcp", "tls", NULL};
/* What each type takes. */
static const struct {
    enum need url, from, token, path, subject, command, secret, template;
    const char *const *schemes;
    const char *form;
} types[] = {
    [SET_CHANNEL_EMAIL] = {.url = MUST,
                           .from = MUST,
                           .schemes = smtp,
                           .form = "smtp://host:port or smtps://host:port"},
    [SET_CHANNEL_SLACK] = {.url = MUST, .schemes = web, .form = "http://... or https://..."},
    [SET_CHANNEL_FILE] = {.path = MUST},
    [SET_CHANNEL_WEBHOOK] = {.url = MUST,
                             .token = MAY,
                             .secret = MAY,
                             .template = MAY,
                             .schemes = web,
                             .form = "http://... or https://..."},
    [SET_CHANNEL_PAGERDUTY] = {.url = MAY, .token = MUST, .schemes = web, .form = "http://... or https://..."},
    [SET_CHANNEL_TEAMS] = {.url = MUST, .schemes = web, .form = "http://... or https://..."},
    [SET_CHANNEL_DISCORD] = {.url = MUST, .schemes = web, .form = "http://... or https://..."},
    [SET_CHANNEL_NTFY] = {.url = MUST, .token = MAY, .template = MAY, .schemes = web, .form = "http(s)://host/topic"},
    [SET_CHANNEL_SYSLOG] = {.url = MUST,
                            .schemes = logs,
                            .form = "udp://host:port, tcp://host:port or tls://host:port"},
    [SET_CHANNEL_NATS] = {.subject = MUST, .template = MAY},
    [SET_CHANNEL_EXEC] = {.command = MUST, .template = MAY},
};

static void need(struct conf_ctx *ctx, const char *key, enum need n, bool given, const char *type)
{
    if (n == MUST && !given)
        conf_problem(ctx, key, "required for a channel of type %s", type);
    else if (n == NO && given)
        conf_problem(ctx, key, "a channel of type %s has none; take it out", type);
}

static void check_email(const struct set_channel *c, struct conf_ctx *ctx)
{
    if (*c->from)
        check_address(ctx, "from", c->from);
    if (c->to.n == 0)
        conf_problem(ctx, "to", "required for a channel of type email");
    for (size_t i = 0; i < c->to.n; i++) {
        char key[32];
        snprintf(key, sizeof key, "to[%zu]", i);
        check_address(ctx, key, *CONF_AT(c->to, char *, i));
    }
}

static bool subject_ok(const char *s)
{
    if (strncmp(s, "redoubt.", 8) == 0 || *s == '$' || *s == '.' || s[strlen(s) - 1] == '.' || strstr(s, ".."))
        return false;
    return !s[strcspn(s, " \t\r\n*>")];
}

static void check_headers(const struct set_channel *c, struct conf_ctx *ctx)
{
    for (size_t i = 0; i < c->headers.n; i++) {
        const char *h = *CONF_AT(c->headers, char *, i), *colon = strchr(h, ':');
        bool ok = colon && colon > h;
        for (const char *p = h; ok && *p; p++)
            ok = (unsigned char)*p >= 0x20 && *p != 0x7f && (p >= colon || isgraph((unsigned char)*p));
        if (!ok) {
            char key[32];
            snprintf(key, sizeof key, "headers[%zu]", i);
            conf_problem(ctx, key, "found *** of another form; allowed: `Name: value` on one line");
        }
    }
}

static void check_secret(struct conf_ctx *ctx, const char *key, const char *secret)
{
    struct webhook_key k;
    struct err e = {""};
    if (*secret && webhook_key_read(secret, &k, &e))
        conf_problem(ctx, key, "found *** of another form: %s; allowed: whsec_ and 24 to 64 bytes in base64", e.text);
    explicit_bzero(&k, sizeof k);
}

/* The last part of the path; letters, digits, _ and -, as ntfy has them. */
static bool has_topic(const char *url)
{
    size_t end = strcspn(url, "?#"), at;
    while (end > 0 && url[end - 1] == '/')
        end--;
    for (at = end; at > 0 && url[at - 1] != '/'; at--)
        if (!isalnum((unsigned char)url[at - 1]) && url[at - 1] != '_' && url[at - 1] != '-')
            return false;
    const char *host = strstr(url, "://");
    return host && url + at > host + 3 && end - at >= 1 && end - at <= 64;
}

void settings_check_channel(void *object, struct conf_ctx *ctx)
{
    const struct set_channel *c = object;
    const char *type = settings_channel_types[c->type];
    if (c->type == SET_CHANNEL_FILE && *c->path != '/')
        conf_problem(ctx, "path", "%s; a channel of type file needs an absolute path",
                     *c->path ? "is relative" : "is missing");
    need(ctx, "url", types[c->type].url, *c->url, type);
    need(ctx, "from", types[c->type].from, *c->from, type);
    need(ctx, "token", types[c->type].token, *c->token, type);
    need(ctx, "path", types[c->type].path == MUST ? MAY : NO, *c->path, type);
    need(ctx, "subject", types[c->type].subject, *c->subject, type);
    need(ctx, "command", types[c->type].command, c->command.n > 0, type);
    need(ctx, "secret", types[c->type].secret, *c->secret, type);
    need(ctx, "template", types[c->type].template, *c->template, type);
    check_secret(ctx, "secret", c->secret);
    if (*c->key_file && !*c->cert_file)
        conf_problem(ctx, "key_file", "given without cert_file: a key needs its certificate");
    if (c->type == SET_CHANNEL_NTFY && *c->url && !has_topic(c->url))
        conf_problem(ctx, "url",
                     "found *** without a topic; allowed: http(s)://host/topic, 1 to 64 of A-Z a-z 0-9 _ -");
    if (*c->url && types[c->type].schemes && !conf_url_ok(c->url, strlen(c->url), types[c->type].schemes))
        conf_problem(ctx, "url", "found *** of another form; allowed for a channel of type %s: %s", type,
                     types[c->type].form);
    if (c->type == SET_CHANNEL_EMAIL)
        check_email(c, ctx);
    if (*c->subject && !subject_ok(c->subject))
        conf_problem(ctx, "subject", "found `%s`; allowed: a NATS subject without wildcards, not below redoubt or $",
                     c->subject);
    if (c->command.n && **CONF_AT(c->command, char *, 0) != '/')
        conf_problem(ctx, "command", "found `%s`; allowed: the absolute path of a program, then its arguments",
                     *CONF_AT(c->command, char *, 0));
    check_headers(c, ctx);
}

/* ---- quiet hours ---- */

static bool clock_ok(const char *s)
{
    return strlen(s) == 5 && isdigit((unsigned char)s[0]) && isdigit((unsigned char)s[1]) && s[2] == ':' &&
           isdigit((unsigned char)s[3]) && isdigit((unsigned char)s[4]) && strncmp(s, "24", 2) < 0 && s[3] < '6';
}

void settings_check_quiet(void *object, struct conf_ctx *ctx)
{
    static const char days[] = "sun mon tue wed thu fri sat ";
    const struct set_quiet *q = object;
    if (!clock_ok(q->from))
        conf_problem(ctx, "from", "found `%s`; allowed: HH:MM, 00:00 to 23:59", q->from);
    if (!clock_ok(q->to))
        conf_problem(ctx, "to", "found `%s`; allowed: HH:MM, 00:00 to 23:59", q->to);
    for (size_t i = 0; i < q->days.n; i++) {
        const char *day = *CONF_AT(q->days, char *, i);
        char key[32];
        snprintf(key, sizeof key, "days[%zu]", i);
        if (strlen(day) != 3 || !strstr(days, day))
            conf_problem(ctx, key, "found `%s`; allowed: mon, tue, wed, thu, fri, sat, sun", day);
    }
}

/* ---- matchers ---- */

static void check_matchers(struct conf_ctx *ctx, const char *key, const struct conf_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        const char *text = *CONF_AT(*list, char *, i);
        char at[80];
        struct err why;
        struct matchers *m = matchers_new(&text, 1, &why);
        matchers_free(m);
        snprintf(at, sizeof at, "%s[%zu]", key, i);
        if (!m)
            conf_problem(ctx, at, "%s", why.text);
    }
}

static void check_fields(struct conf_ctx *ctx, const char *key, const struct conf_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        char at[80];
        snprintf(at, sizeof at, "%s[%zu]", key, i);
        if (!matcher_field_ok(*CONF_AT(*list, char *, i)))
            conf_problem(ctx, at,
                         "found `%s`; allowed: severity, source, agent, target, failure_kind, dedup_key, label.KEY",
                         *CONF_AT(*list, char *, i));
    }
}

/* ---- routes ---- */

void settings_check_route(void *object, struct conf_ctx *ctx)
{
    const struct set_route *r = object;
    if (r->channels.n == 0 && !*r->to)
        conf_problem(ctx, "channels", "required, or `to`: somebody must be told");
    if (r->channels.n > 0 && *r->to)
        conf_problem(ctx, "to", "given together with channels; allowed: one of both");
    check_matchers(ctx, "match", &r->match);
    check_fields(ctx, "group_by", &r->group_by);
}

/* Left out, the routes are one for all: the source's own rule, channels in order until the first that accepts. */
static void default_route(struct set_alert *a, struct conf_ctx *ctx)
{
    struct set_route *r = calloc(1, sizeof *r);
    char **names = calloc(a->channels.n, sizeof *names);
    bool ok = r && names && (r->name = strdup("all")) && (r->to = strdup("")) && (r->escalation = strdup("")) &&
              (r->quiet = strdup(""));
    for (size_t i = 0; ok && i < a->channels.n; i++) {
        names[i] = strdup(CONF_AT(a->channels, struct set_channel, i)->name);
        r->channels = (struct conf_list){names, i + 1};
        ok = names[i] != NULL;
    }
    if (r) {
        r->repeat_ms = 4 * HOUR;
        r->resolved = true;
        a->routes = (struct conf_list){r, 1};
    }
    if (!ok) {
        if (!r || r->channels.n == 0)
            free(names);
        conf_problem(ctx, "routes", "out of memory");
    }
}

/* ---- names ---- */

static bool has_channel(const struct set_alert *a, const char *name)
{
    for (size_t i = 0; i < a->channels.n; i++)
        if (strcmp(CONF_AT(a->channels, struct set_channel, i)->name, name) == 0)
            return true;
    return false;
}

static const struct set_channel_group *group_of(const struct set_alert *a, const char *name)
{
    for (size_t i = 0; i < a->groups.n; i++)
        if (strcmp(CONF_AT(a->groups, struct set_channel_group, i)->name, name) == 0)
            return CONF_AT(a->groups, struct set_channel_group, i);
    return NULL;
}

static void known(const struct set_alert *a, struct conf_ctx *ctx, const char *key, const char *name)
{
    if (!has_channel(a, name) && !group_of(a, name))
        conf_problem(ctx, key, "found `%s`; allowed: the name of a channel or group of this file", name);
}

/* Every list of named things: each name once. The name is the first member of each. */
static void check_once(const struct conf_list *list, size_t size, const char *what, struct conf_ctx *ctx)
{
    for (size_t i = 0; i < list->n; i++) {
        const char *name = *(char *const *)((const char *)list->items + i * size);
        for (size_t k = 0; k < i; k++) {
            if (*name && strcmp(name, *(char *const *)((const char *)list->items + k * size)) == 0) {
                char key[64];
                snprintf(key, sizeof key, "%s[%zu].name", what, i);
                conf_problem(ctx, key, "found `%s`, which is the name of %s[%zu] too; allowed: every name once", name,
                             what, k);
                break;
            }
        }
    }
}

static bool ends(const struct set_alert *a, const struct set_channel_group *g, int depth)
{
    if (depth > GROUP_DEPTH_MAX)
        return false;
    for (size_t i = 0; i < g->members.n; i++) {
        const struct set_channel_group *below = group_of(a, *CONF_AT(g->members, char *, i));
        if (below && !ends(a, below, depth + 1))
            return false;
    }
    return true;
}

/* Channels below a group, each as often as it is there; only of groups that end. */
static size_t leaves(const struct set_alert *a, const struct set_channel_group *g)
{
    size_t n = 0;
    for (size_t i = 0; i < g->members.n && n <= GROUP_LEAVES_MAX; i++) {
        const struct set_channel_group *below = group_of(a, *CONF_AT(g->members, char *, i));
        n += below ? leaves(a, below) : 1;
    }
    return n;
}

static void check_groups(const struct set_alert *a, struct conf_ctx *ctx)
{
    char key[64];
    for (size_t i = 0; i < a->groups.n; i++) {
        const struct set_channel_group *g = CONF_AT(a->groups, struct set_channel_group, i);
        if (has_channel(a, g->name)) {
            snprintf(key, sizeof key, "groups[%zu].name", i);
            conf_problem(ctx, key, "found `%s`, which is the name of a channel too; allowed: every name once",
                         g->name);
        }
        for (size_t k = 0; k < g->members.n; k++) {
            snprintf(key, sizeof key, "groups[%zu].members[%zu]", i, k);
            known(a, ctx, key, *CONF_AT(g->members, char *, k));
        }
        if (!ends(a, g, 1)) {
            snprintf(key, sizeof key, "groups[%zu].members", i);
            conf_problem(ctx, key, "a group holds itself, or groups are more than %d deep", GROUP_DEPTH_MAX);
        } else if (leaves(a, g) > GROUP_LEAVES_MAX) {
            snprintf(key, sizeof key, "groups[%zu].members", i);
            conf_problem(ctx, key, "holds, with the groups in it, more than %d channels", GROUP_LEAVES_MAX);
        }
    }
}

static bool named(const struct conf_list *list, size_t size, const char *name)
{
    for (size_t i = 0; i < list->n; i++)
        if (strcmp(*(char *const *)((const char *)list->items + i * size), name) == 0)
            return true;
    return false;
}

static void check_routes(const struct set_alert *a, struct conf_ctx *ctx)
{
    char key[64];
    for (size_t i = 0; i < a->routes.n; i++) {
        const struct set_route *r = CONF_AT(a->routes, struct set_route, i);
        for (size_t k = 0; k < r->channels.n; k++) {
            if (!has_channel(a, *CONF_AT(r->channels, char *, k))) {
                snprintf(key, sizeof key, "routes[%zu].channels[%zu]", i, k);
                conf_problem(ctx, key, "found `%s`; allowed: the name of a channel of this file",
                             *CONF_AT(r->channels, char *, k));
            }
        }
        snprintf(key, sizeof key, "routes[%zu].to", i);
        if (*r->to)
            known(a, ctx, key, r->to);
        snprintf(key, sizeof key, "routes[%zu].escalation", i);
        if (*r->escalation && !named(&a->escalations, sizeof(struct set_escalation), r->escalation))
            conf_problem(ctx, key, "found `%s`; allowed: the name of an escalation of this file", r->escalation);
        snprintf(key, sizeof key, "routes[%zu].quiet", i);
        if (*r->quiet && !named(&a->quiet, sizeof(struct set_quiet), r->quiet))
            conf_problem(ctx, key, "found `%s`; allowed: the name of quiet hours of this file", r->quiet);
    }
}

/* The node of a route's own channels must be no other's name. */
static void check_route_nodes(const struct set_alert *a, struct conf_ctx *ctx)
{
    char key[64];
    for (size_t i = 0; i < a->routes.n; i++) {
        const struct set_route *r = CONF_AT(a->routes, struct set_route, i);
        char node[sizeof ROUTE_NODE + NAME_MAX_LEN];
        snprintf(node, sizeof node, "%s%s", ROUTE_NODE, r->name);
        if (r->channels.n > 0 && (has_channel(a, node) || group_of(a, node))) {
            snprintf(key, sizeof key, "routes[%zu].name", i);
            conf_problem(ctx, key, "found `%s`; allowed: another one, as `%s` is the name of a channel or group",
                         r->name, node);
        }
    }
}

static void check_inhibit(const struct set_alert *a, struct conf_ctx *ctx)
{
    for (size_t i = 0; i < a->inhibit.n; i++) {
        const struct set_inhibit *x = CONF_AT(a->inhibit, struct set_inhibit, i);
        char key[64];
        snprintf(key, sizeof key, "inhibit[%zu].source", i);
        check_matchers(ctx, key, &x->source);
        snprintf(key, sizeof key, "inhibit[%zu].target", i);
        check_matchers(ctx, key, &x->target);
        snprintf(key, sizeof key, "inhibit[%zu].equal", i);
        check_fields(ctx, key, &x->equal);
    }
}

static void check_escalations(const struct set_alert *a, struct conf_ctx *ctx)
{
    char key[64];
    for (size_t i = 0; i < a->escalations.n; i++) {
        const struct set_escalation *x = CONF_AT(a->escalations, struct set_escalation, i);
        for (size_t k = 0; k < x->steps.n; k++) {
            snprintf(key, sizeof key, "escalations[%zu].steps[%zu].to", i, k);
            known(a, ctx, key, CONF_AT(x->steps, struct set_step, k)->to);
        }
    }
}

static void check_programs(const struct set_alert *a, struct conf_ctx *ctx)
{
    char key[64];
    for (size_t i = 0; i < a->channels.n; i++) {
        const struct set_channel *c = CONF_AT(a->channels, struct set_channel, i);
        const char *program = c->type == SET_CHANNEL_EXEC && c->command.n ? *CONF_AT(c->command, char *, 0) : NULL;
        bool allowed = !program;
        for (size_t k = 0; !allowed && k < a->exec_allowed.n; k++)
            allowed = strcmp(*CONF_AT(a->exec_allowed, char *, k), program) == 0;
        if (!allowed) {
            snprintf(key, sizeof key, "channels[%zu].command", i);
            conf_problem(ctx, key, "found `%s`, which is not among alert.exec_allowed", program);
        }
    }
}

/* A route without a name is called by its place. */
static void name_routes(struct set_alert *a, struct conf_ctx *ctx)
{
    for (size_t i = 0; i < a->routes.n; i++) {
        struct set_route *r = CONF_AT(a->routes, struct set_route, i);
        char name[24];
        if (*r->name)
            continue;
        snprintf(name, sizeof name, "route%zu", i + 1);
        char *copy = strdup(name);
        if (copy)
            r->name = copy; /* what was there is the default's, which is shared */
        else
            conf_problem(ctx, "routes", "out of memory");
    }
}

void settings_check_alert(void *object, struct conf_ctx *ctx)
{
    struct set_alert *a = object;
    name_routes(a, ctx);
    check_once(&a->channels, sizeof(struct set_channel), "channels", ctx);
    check_once(&a->groups, sizeof(struct set_channel_group), "groups", ctx);
    check_once(&a->quiet, sizeof(struct set_quiet), "quiet", ctx);
    check_once(&a->escalations, sizeof(struct set_escalation), "escalations", ctx);
    check_once(&a->inhibit, sizeof(struct set_inhibit), "inhibit", ctx);
    check_once(&a->routes, sizeof(struct set_route), "routes", ctx);
    check_groups(a, ctx);
    check_routes(a, ctx);
    check_inhibit(a, ctx);
    check_escalations(a, ctx);
    check_programs(a, ctx);
    check_secret(ctx, "last_resort.secret", a->last_resort.secret);
    if (*a->deadman.to)
        known(a, ctx, "deadman.to", a->deadman.to);
    else if (*a->deadman.url)
        conf_problem(ctx, "deadman.to", "required with deadman.url: a ping without a test says nothing");
    if (a->routes.n == 0 && a->channels.n > 0)
        default_route(a, ctx);
    check_route_nodes(a, ctx);
}
