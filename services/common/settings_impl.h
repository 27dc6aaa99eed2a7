/* settings_impl.h - what settings.c and settings_check.c share; private to them. */
#ifndef REDOUBT_SETTINGS_IMPL_H
#define REDOUBT_SETTINGS_IMPL_H

#include "common/settings.h"

/* ---- for tables of settings ---- */

#define SECOND  INT64_C(1000)
#define MINUTE  (60 * SECOND)
#define HOUR    (60 * MINUTE)
#define DAY     (24 * HOUR)
#define GIB     (INT64_C(1) << 30)
#define N_OF(a) (sizeof(a) / sizeof((a)[0]))

/* One row: key, type, member of STRUCT, default, least, greatest, help; then choices, schema or item type by name. */
#define ROW(key_, type_, member_, def_, min_, max_, help_, ...)                                                      \
    {                                                                                                                \
        .key = key_, .type = CONF_##type_, .offset = offsetof(STRUCT, member_), .def = def_, .min = min_,            \
        .max = max_, .reload = RELOAD, .help = help_, ##__VA_ARGS__                                                  \
    }
#define REQUIRED NULL

extern const struct conf_schema settings_agent_schema; /* settings_agent.c */
extern const struct conf_schema settings_limits_schema;
extern const struct conf_schema settings_alert_schema;       /* settings_alert.c */
extern const struct conf_schema settings_audit_schema;       /* settings_audit.c */
extern const struct conf_schema settings_rollback_schema;    /* settings_rollback.c */
extern const struct conf_schema settings_continuity_schema;  /* settings_continuity.c */
extern const struct conf_schema settings_expect_json_schema; /* settings.c */

extern const char *const settings_probe_types[];
extern const char *const settings_channel_types[];

void settings_check_nats(void *object, struct conf_ctx *ctx);
void settings_check_redis(void *object, struct conf_ctx *ctx);
void settings_check_probe(void *object, struct conf_ctx *ctx);
void settings_check_probe_network(const struct set_probe *p, struct conf_ctx *ctx); /* settings_probe.c */
void settings_check_tcp_url(const char *url, struct conf_ctx *ctx);
void settings_check_question(void *object, struct conf_ctx *ctx);
void settings_check_breaker(void *object, struct conf_ctx *ctx);
void settings_check_override(void *object, struct conf_ctx *ctx);
void settings_check_agent(void *object, struct conf_ctx *ctx);
void settings_check_actions(void *object, struct conf_ctx *ctx);
void settings_check_guard(void *object, struct conf_ctx *ctx);
void settings_check_channel(void *object, struct conf_ctx *ctx);
void settings_check_alert(void *object, struct conf_ctx *ctx);
void settings_check_route(void *object, struct conf_ctx *ctx);
void settings_check_quiet(void *object, struct conf_ctx *ctx);
void settings_check_audit(void *object, struct conf_ctx *ctx);
void settings_check_deployment(void *object, struct conf_ctx *ctx); /* settings_rollback_check.c */
void settings_check_rb_check(void *object, struct conf_ctx *ctx);
void settings_check_rb_data(void *object, struct conf_ctx *ctx);
void settings_check_rollback(void *object, struct conf_ctx *ctx);
void settings_check_backup(void *object, struct conf_ctx *ctx); /* settings_continuity_check.c */
void settings_check_drill(void *object, struct conf_ctx *ctx);
void settings_check_function(void *object, struct conf_ctx *ctx);
void settings_check_own_objectives(void *object, struct conf_ctx *ctx);
void settings_check_continuity(void *object, struct conf_ctx *ctx);
void settings_check_all(void *object, struct conf_ctx *ctx);

/* settings_index.c: names in order, so that big files load in a time that grows with their size, not its square. */
bool settings_index_make(struct settings *s); /* false: out of memory, nothing changed */
void settings_index_free(struct settings *s);

#endif
