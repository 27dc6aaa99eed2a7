/* continuity_parts.c - the parts that only the leader opens, as one table: backups, the configuration, drills, reports. */
#include "common/log.h"
#include "continuity/continuity_impl.h"
#include <string.h>

struct part {
    const char *name;
    const char *const *verbs; /* NULL-terminated */
    bool (*open)(struct continuity *c, struct err *e);
    void (*close)(struct continuity *c);
    void (*tick)(struct continuity *c, int64_t now_ms);
    void (*reload)(struct continuity *c);
    bool (*command)(struct continuity *c, const char *verb, const PB(ContinuityCommand) * cmd, const char *reply);
    const ProtobufCMessageDescriptor *desc; /* its documents; NULL = it has none */
    void (*seen)(struct continuity *c, const void *message);
};

/* Every part has the same few calls, on a pointer of its own type: false if it is not open. */
#define PART(name, field)                                                                                            \
    static bool name##_opens(struct continuity *c, struct err *e)                                                    \
    {                                                                                                                \
        return (c->field = name##_open(c, e)) != NULL;                                                               \
    }                                                                                                                \
    static void name##_closes(struct continuity *c)                                                                  \
    {                                                                                                                \
        if (c->field)                                                                                                \
            name##_close(c->field);                                                                                  \
        c->field = NULL;                                                                                             \
    }                                                                                                                \
    static void name##_ticks(struct continuity *c, int64_t now_ms)                                                   \
    {                                                                                                                \
        if (c->field)                                                                                                \
            name##_tick(c->field, now_ms);                                                                           \
    }                                                                                                                \
    static void name##_reloads(struct continuity *c)                                                                 \
    {                                                                                                                \
        if (c->field)                                                                                                \
            name##_reload(c->field);                                                                                 \
    }
#define PART_SEEN(name, field)                                                                                       \
    static void name##_sees(struct continuity *c, const void *message)                                               \
    {                                                                                                                \
        if (c->field)                                                                                                \
            name##_seen(c->field, message);                                                                          \
    }
PART(backups, backups)
PART_SEEN(backups, backups)
PART(config_room, config)
PART_SEEN(config_room, config)
PART(gamedays, gamedays)
PART_SEEN(gamedays, gamedays)
PART(reports, reports)

static bool backups_takes(struct continuity *c, const char *verb, const PB(ContinuityCommand) * cmd,
                          const char *reply)
{
    if (c->backups)
        backups_command(c->backups, verb, cmd, reply);
    return c->backups;
}

static bool config_takes(struct continuity *c, const char *verb, const PB(ContinuityCommand) * cmd, const char *reply)
{
    if (c->config)
        config_room_command(c->config, verb, cmd, reply);
    return c->config;
}

static bool gamedays_takes(struct continuity *c, const char *verb, const PB(ContinuityCommand) * cmd,
                           const char *reply)
{
    (void)verb;
    if (c->gamedays)
        gamedays_command(c->gamedays, cmd, reply);
    return c->gamedays;
}

static bool reports_takes(struct continuity *c, const char *verb, const PB(ContinuityCommand) * cmd,
                          const char *reply)
{
    (void)verb;
    if (c->reports)
        reports_command(c->reports, cmd, reply);
    return c->reports;
}

static const char *const backups_verbs[] = {"backup", "test", NULL};
static const char *const config_verbs[] = {"config_history", "config_diff",     "config_put",
                                           "config_apply",   "config_rollback", NULL};
static const char *const gamedays_verbs[] = {"drill", NULL};
static const char *const reports_verbs[] = {"report", NULL};

/* Reports first: an incident that ends while the others open has its report. */
static const struct part parts[PARTS] = {
    {"reports", reports_verbs, reports_opens, reports_closes, reports_ticks, reports_reloads, reports_takes, NULL,
     NULL},
    {"backups", backups_verbs, backups_opens, backups_closes, backups_ticks, backups_reloads, backups_takes,
     PB_DESC(backup_state), backups_sees},
    {"config", config_verbs, config_room_opens, config_room_closes, config_room_ticks, config_room_reloads,
     config_takes, PB_DESC(config_state), config_room_sees},
    {"game days", gamedays_verbs, gamedays_opens, gamedays_closes, gamedays_ticks, gamedays_reloads, gamedays_takes,
     PB_DESC(drill_state), gamedays_sees},
};

void parts_open(struct continuity *c)
{
    for (size_t i = 0; i < PARTS; i++) {
        struct err e = {""};
        if (!parts[i].open(c, &e))
            log_error("a part of continuity does not work", F_STR("part", parts[i].name), F_STR("why", e.text));
    }
}

void parts_close(struct continuity *c)
{
    for (size_t i = PARTS; i-- > 0;)
        parts[i].close(c);
}

/* What a backup has shown of the configuration is said with it. */
static void tell_verified(struct continuity *c)
{
    const PB(BackupState) * states[64];
    size_t n = c->backups && c->config ? backups_states(c->backups, states, 64) : 0;
    for (size_t i = 0; i < n; i++)
        if (states[i]->kind == REDOUBT__V1__BACKUP_KIND__BACKUP_KIND_CONFIG)
            config_room_verified(c->config, states[i]->verified_point_unix_ms);
}

void parts_tick(struct continuity *c, int64_t now_ms)
{
    tell_verified(c);
    for (size_t i = 0; i < PARTS; i++)
        parts[i].tick(c, now_ms);
}

void parts_reload(struct continuity *c)
{
    for (size_t i = 0; i < PARTS; i++)
        parts[i].reload(c);
}

static const struct part *part_of(const char *verb)
{
    for (size_t i = 0; i < PARTS; i++)
        for (const char *const *v = parts[i].verbs; *v; v++)
            if (strcmp(*v, verb) == 0)
                return &parts[i];
    return NULL;
}

bool parts_verb(const char *verb)
{
    return part_of(verb);
}

bool parts_command(struct continuity *c, const char *verb, const PB(ContinuityCommand) * cmd, const char *reply)
{
    const struct part *p = part_of(verb);
    return p && p->command(c, verb, cmd, reply);
}

void parts_seen(struct continuity *c, const ProtobufCMessageDescriptor *desc, const void *message)
{
    for (size_t i = 0; i < PARTS; i++)
        if (parts[i].desc == desc)
            parts[i].seen(c, message);
}

bool parts_report(struct continuity *c, const struct incident *x)
{
    if (c->reports)
        reports_incident(c->reports, x);
    return c->reports;
}

void parts_delivery(struct continuity *c, const PB(DeliveryReceipt) * d)
{
    if (c->reports)
        reports_delivery(c->reports, d);
}

size_t parts_backups(const struct continuity *c, const PB(BackupState) * *ret, size_t max)
{
    return c->backups ? backups_states(c->backups, ret, max) : 0;
}

size_t parts_drills(const struct continuity *c, const PB(DrillState) * *ret, size_t max)
{
    return c->gamedays ? gamedays_states(c->gamedays, ret, max) : 0;
}

struct config_room *continuity_config(const struct continuity *c)
{
    return c->config;
}

const PB(ConfigState) * parts_config(const struct continuity *c)
{
    return c->config ? config_room_state(c->config) : NULL;
}

bool parts_point(const struct continuity *c, enum set_objective rpo, int64_t *ret_point_ms, int64_t *ret_expected_ms,
                 const char **ret_source)
{
    return c->backups && backups_point(c->backups, rpo, ret_point_ms, ret_expected_ms, ret_source);
}
