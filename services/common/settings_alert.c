/* settings_alert.c - the rows of `alert`: channels, groups, routes, and what else decides who is told when. */
#include "common/settings_impl.h"
#include <string.h>

#undef RELOAD
#define RELOAD true

static const char *const severities[] = {"info", "warning", "high", "critical", NULL};

/* ---- channels ---- */

#define STRUCT struct set_channel
const char *const settings_channel_types[] = {
    [SET_CHANNEL_EMAIL] = "email",     [SET_CHANNEL_SLACK] = "slack",         [SET_CHANNEL_FILE] = "file",
    [SET_CHANNEL_WEBHOOK] = "webhook", [SET_CHANNEL_PAGERDUTY] = "pagerduty", [SET_CHANNEL_TEAMS] = "teams",
    [SET_CHANNEL_DISCORD] = "discord", [SET_CHANNEL_NTFY] = "ntfy",           [SET_CHANNEL_SYSLOG] = "syslog",
    [SET_CHANNEL_NATS] = "nats",       [SET_CHANNEL_EXEC] = "exec",           NULL};
static const struct conf_field channel_fields[] = {
    ROW("name", TOKEN, name, REQUIRED, 0, 0, "Its name in groups, routes and receipts."),
    ROW("type", ENUM, type, REQUIRED, 0, 0,
        "email: SMTP. slack, teams, discord: incoming webhooks. webhook: POST, signed by Standard Webhooks. "
        "pagerduty: Events "
        "v2. ntfy: a topic. syslog: RFC 5424. nats: a subject. exec: a program that gets the alert on stdin. file: "
        "one "
        "line of JSON per alert, the record; never counts as told.",
        .choices = settings_channel_types),
    ROW("url", SECRET, url, "", 0, 0,
        "email: smtp://host:port or smtps://host:port. slack, teams, discord, webhook: http(s)://..., which may be a "
        "secret. "
        "pagerduty: empty = https://events.pagerduty.com/v2/enqueue. ntfy: http(s)://host/topic. syslog: "
        "udp://host:port, "
        "tcp://host:port or tls://host:port."),
    ROW("user", STRING, user, "", 0, 0, "email, ntfy: login; empty = none."),
    ROW("password", SECRET, password, "", 0, 0, "email, ntfy: its password."),
    ROW("from", STRING, from, "", 3, 254, "email: the sender's address."),
    ROW("to", STRINGS, to, "", 1, 32, "email: the receivers' addresses.", .item = CONF_STRING),
    ROW("starttls", BOOL, starttls, "false", 0, 0, "email: refuse to go on without STARTTLS."),
    ROW("token", SECRET, token, "", 0, 0, "pagerduty: the routing (integration) key. webhook, ntfy: a bearer token."),
    ROW("secret", SECRET, secret, "", 0, 0,
        "webhook: whsec_ and 24 to 64 bytes in base64; each call is signed with it (Standard Webhooks)."),
    ROW("headers", STRINGS, headers, "", 0, 16, "webhook: more headers, `Name: value`. They may be secrets.",
        .item = CONF_SECRET),
    ROW("template", STRING, template, "", 0, 16384,
        "webhook, ntfy, nats, exec: a jq program that makes the body from the message (services/alert/README.md has "
        "its "
        "fields). A text is sent as it is, anything else as JSON. Empty = the message itself."),
    ROW("ca_file", STRING, ca_file, "", 0, 0, "TLS: PEM file of the authorities; empty = the system's."),
    ROW("cert_file", STRING, cert_file, "", 0, 0, "TLS: PEM file of our certificate."),
    ROW("key_file", STRING, key_file, "", 0, 0, "TLS: PEM file of its key; empty = it is in cert_file."),
    ROW("facility", INT, facility, "16", 0, 23, "syslog: facility; 16 is local0."),
    ROW("subject", STRING, subject, "", 1, 200, "nats: the subject to publish on; not below redoubt."),
    ROW("command", STRINGS, command, "", 1, 32,
        "exec: a program of `exec_allowed` by its absolute path, and arguments. No shell.", .item = CONF_STRING),
    ROW("path", STRING, path, "", 1, 0, "file: where it is."),
    ROW("max_size", SIZE, max_bytes, "64MiB", 4096, 16 * GIB,
        "file: beyond this it becomes PATH.1 and a new one is begun."),
    ROW("keep", INT, keep, "8", 1, 1000, "file: how many of PATH.1, PATH.2, ... are kept."),
    ROW("rate", INT, rate_per_min, "-1", -1, 1000000,
        "Messages a minute; 0 = no limit, -1 = the type's own: slack, teams, discord, ntfy 60, others none."),
    ROW("burst", INT, burst, "-1", -1, 100000, "So many at once before the rate counts; -1 = the type's own."),
    ROW("at_once", INT, at_once, "0", 0, 1024, "Attempts under way at a time; 0 = the type's own."),
    ROW("queue", INT, queue, "1000", 1, 100000, "Attempts that may wait; what is beyond goes out in a digest."),
    ROW("attempt", DURATION, attempt_ms, "10s", 100, 5 * MINUTE, "Longest time that one attempt may take."),
    ROW("tries", INT, tries, "3", 1, 20, "Attempts until the next channel is tried."),
    ROW("deadline_critical", DURATION, deadline_critical_ms, "30s", SECOND, HOUR,
        "A critical alert stays this long on this channel at most."),
    ROW("deadline", DURATION, deadline_ms, "5m", SECOND, DAY,
        "Any other alert stays this long on this channel at most."),
};
static const struct conf_schema channel_schema = {"channel", sizeof(struct set_channel), channel_fields,
                                                  N_OF(channel_fields), settings_check_channel};

/* ---- groups ---- */

#undef STRUCT
#define STRUCT struct set_channel_group
static const char *const modes[] = {[SET_GROUP_FAILOVER] = "failover", [SET_GROUP_FANOUT] = "fanout", NULL};
static const struct conf_field group_fields[] = {
    ROW("name", TOKEN, name, REQUIRED, 0, 0, "Its name; no channel has the same."),
    ROW("mode", ENUM, mode, "failover", 0, 0,
        "failover: in order, the first that accepts ends it. fanout: all of them, each until it has accepted.",
        .choices = modes),
    ROW("members", STRINGS, members, REQUIRED, 1, 32, "Channels and other groups.", .item = CONF_TOKEN),
};
static const struct conf_schema group_schema = {"group", sizeof(struct set_channel_group), group_fields,
                                                N_OF(group_fields), NULL};

/* ---- when, and when not ---- */

#undef STRUCT
#define STRUCT struct set_quiet
static const struct conf_field quiet_fields[] = {
    ROW("name", TOKEN, name, REQUIRED, 0, 0, "Its name in routes."),
    ROW("days", STRINGS, days, "", 0, 7, "mon, tue, ... sun: days on which they begin; none = every day.",
        .item = CONF_TOKEN),
    ROW("from", STRING, from, REQUIRED, 5, 5, "HH:MM, in the service's local time (TZ)."),
    ROW("to", STRING, to, REQUIRED, 5, 5, "HH:MM; if that is no later than `from`, on the next day."),
    ROW("below", ENUM, below, "critical", 0, 0,
        "Alerts below this severity wait until they end, and go out in one message.", .choices = severities),
};
static const struct conf_schema quiet_schema = {"quiet", sizeof(struct set_quiet), quiet_fields, N_OF(quiet_fields),
                                                settings_check_quiet};

#undef STRUCT
#define STRUCT struct set_step
static const struct conf_field step_fields[] = {
    ROW("after", DURATION, after_ms, "5m", SECOND, 30 * DAY, "Without an acknowledgement since the step before."),
    ROW("to", TOKEN, to, REQUIRED, 0, 0, "A channel or a group."),
};
static const struct conf_schema step_schema = {"step", sizeof(struct set_step), step_fields, N_OF(step_fields), NULL};
#undef STRUCT
#define STRUCT struct set_escalation
static const struct conf_field escalation_fields[] = {
    ROW("name", TOKEN, name, REQUIRED, 0, 0, "Its name in routes."),
    ROW("steps", LIST, steps, REQUIRED, 1, 16, "Who is told next, and after how long.", .schema = &step_schema),
    ROW("again", DURATION, again_ms, "0s", 0, 30 * DAY, "The last step is done again after this long; 0 = never."),
};
static const struct conf_schema escalation_schema = {"escalation", sizeof(struct set_escalation), escalation_fields,
                                                     N_OF(escalation_fields), NULL};

#undef STRUCT
#define STRUCT struct set_inhibit
static const struct conf_field inhibit_fields[] = {
    ROW("name", TOKEN, name, REQUIRED, 0, 0, "Its name in `muted_by`."),
    ROW("source", STRINGS, source, REQUIRED, 1, 16,
        "A problem that fits these matchers, while it is there, mutes others.", .item = CONF_STRING),
    ROW("target", STRINGS, target, REQUIRED, 1, 16, "Problems that fit these are not told meanwhile.",
        .item = CONF_STRING),
    ROW("equal", STRINGS, equal, "", 0, 16, "Only if both have the same in these fields.", .item = CONF_STRING),
};
static const struct conf_schema inhibit_schema = {"inhibit", sizeof(struct set_inhibit), inhibit_fields,
                                                  N_OF(inhibit_fields), NULL};

/* ---- routes ---- */

#undef STRUCT
#define STRUCT struct set_route
static const struct conf_field route_fields[] = {
    ROW("name", TOKEN, name, "", 0, 0, "Its name; left out = route and its place in the list, from 1."),
    ROW("min_severity", ENUM, min_severity, "info", 0, 0, "The route takes alerts of this severity and above.",
        .choices = severities),
    ROW("match", STRINGS, match, "", 0, 16,
        "Matchers, all of which must fit: FIELD=VALUE, !=, =~ and !~ (a pattern for the whole value), and for "
        "severity >= and "
        "<=. FIELD: severity, source, agent, target, failure_kind, dedup_key, label.KEY.",
        .item = CONF_STRING),
    ROW("channels", STRINGS, channels, "", 0, 32,
        "Names of channels, tried in order: the first that accepts ends it. Files are the record: they are always "
        "written.",
        .item = CONF_TOKEN),
    ROW("to", TOKEN, to, "", 0, 0, "Instead of channels: a channel or a group."),
    ROW("continue", BOOL, go_on, "false", 0, 0, "The routes behind this one are looked at, too."),
    ROW("group_by", STRINGS, group_by, "", 0, 16,
        "Fields; alerts with the same in all of them go out together. None = every problem goes out by itself, at "
        "once.",
        .item = CONF_STRING),
    ROW("group_wait", DURATION, group_wait_ms, "30s", 0, HOUR,
        "A group's first alert waits this long for others. Critical alerts never wait."),
    ROW("group_interval", DURATION, group_interval_ms, "5m", 0, DAY,
        "After that, what is new in the group goes out no more often."),
    ROW("repeat", DURATION, repeat_ms, "4h", 0, 30 * DAY,
        "A problem that is still there and nobody has acknowledged is told again after this long; 0 = never."),
    ROW("escalation", TOKEN, escalation, "", 0, 0, "An escalation by its name."),
    ROW("quiet", TOKEN, quiet, "", 0, 0, "Quiet hours by their name."),
    ROW("resolved", BOOL, resolved, "true", 0, 0, "People are told that a problem is over."),
};
static const struct conf_schema route_schema = {"route", sizeof(struct set_route), route_fields, N_OF(route_fields),
                                                settings_check_route};

/* ---- all of it ---- */

#undef STRUCT
#define STRUCT struct set_deadman
static const struct conf_field deadman_fields[] = {
    ROW("to", TOKEN, to, "", 0, 0,
        "A channel or group that a test alert is sent through each time, from the bus to its acceptance. Empty = "
        "none."),
    ROW("url", SECRET, url, "", 0, 0,
        "Called (GET) after each test that passed, for somebody outside who misses the calls. Empty = none."),
    ROW("every", DURATION, every_ms, "60s", SECOND, HOUR, "How often."),
};
static const struct conf_schema deadman_schema = {"deadman", sizeof(struct set_deadman), deadman_fields,
                                                  N_OF(deadman_fields), NULL};
#undef STRUCT
#define STRUCT struct set_last_resort
static const struct conf_field last_resort_fields[] = {
    ROW("url", SECRET, url, "", 0, 0,
        "Every service calls this webhook with alerts that it cannot hand to the alert service. Empty = only the "
        "file "
        "last-resort.jsonl in the service's directory, and stderr."),
    ROW("secret", SECRET, secret, "", 0, 0, "whsec_...: calls are signed with it (Standard Webhooks)."),
    ROW("after", DURATION, after_ms, "10s", SECOND, HOUR,
        "An alert that the bus has not taken after this long goes the last way, too."),
};
static const struct conf_schema last_resort_schema = {"last_resort", sizeof(struct set_last_resort),
                                                      last_resort_fields, N_OF(last_resort_fields), NULL};

#undef STRUCT
#define STRUCT struct set_alert
static const struct conf_field alert_fields[] = {
    ROW("channels", LIST, channels, "", 0, 64, "Ways to tell people.", .schema = &channel_schema),
    ROW("groups", LIST, groups, "", 0, 64, "Channels put together; groups may hold groups.", .schema = &group_schema),
    ROW("routes", LIST, routes, "", 0, 64,
        "Which alert goes which way; the first route that takes it. Left out = one route for all, over all channels "
        "in their order.",
        .schema = &route_schema),
    ROW("quiet", LIST, quiet, "", 0, 64, "Quiet hours.", .schema = &quiet_schema),
    ROW("escalations", LIST, escalations, "", 0, 64, "Who is told when nobody acknowledges.",
        .schema = &escalation_schema),
    ROW("inhibit", LIST, inhibit, "", 0, 64, "Problems that make others not worth telling.",
        .schema = &inhibit_schema),
    ROW("exec_allowed", STRINGS, exec_allowed, "", 0, 64,
        "Absolute paths of the programs that exec channels may run.", .item = CONF_STRING),
    ROW("ack", DURATION, ack_ms, "30m", MINUTE, 30 * DAY,
        "An acknowledgement ends after this long, if the problem is still there; then people are told again."),
    ROW("digest_every", DURATION, digest_every_ms, "60s", SECOND, DAY,
        "Between two digests of what was more than a channel takes."),
    ROW("lease_ttl", DURATION, lease_ttl_ms, "3s", 500, MINUTE,
        "After a replica's death another does its timed work (digests, repeats, escalations) within this time."),
    ROW("deadman", OBJECT, deadman, "", 0, 0, "A test of the whole way, again and again.", .schema = &deadman_schema),
    ROW("last_resort", OBJECT, last_resort, "", 0, 0, "When the alert service cannot be reached.",
        .schema = &last_resort_schema),
};
const struct conf_schema settings_alert_schema = {"alert", sizeof(struct set_alert), alert_fields, N_OF(alert_fields),
                                                  settings_check_alert};

bool settings_channel_same(const struct set_channel *a, const struct set_channel *b)
{
    return conf_same(&channel_schema, a, b);
}

struct set_channel *settings_channel_copy(const struct set_channel *c)
{
    return conf_copy(&channel_schema, c);
}

void settings_channel_free(struct set_channel *c)
{
    if (!c)
        return;
    char *const secrets[] = {c->url, c->password, c->token, c->secret};
    for (size_t i = 0; i < N_OF(secrets); i++)
        if (secrets[i])
            explicit_bzero(secrets[i], strlen(secrets[i]));
    conf_free(&channel_schema, c);
}
