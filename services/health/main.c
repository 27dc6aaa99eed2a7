/* main.c - redoubt-health: watches LLM APIs, backends and agents. */
#include "health/health_shell.h"

static const struct service_sub subs[] = {
    {SUBJECT_HEALTH ">", SERVICE_SUB_WATCH, PB_DESC(health_changed), health_on_verdict},
    {SUBJECT_BREAKER ">", SERVICE_SUB_WATCH, PB_DESC(breaker_changed), health_on_breaker},
    {SUBJECT_PULSE "alert", SERVICE_SUB_WATCH, PB_DESC(pulse), health_on_pulse},
    {SUBJECT_HEARTBEAT "*", SERVICE_SUB_ALL, PB_DESC(heartbeat), health_on_heartbeat},
    {SUBJECT_DECISION "*", SERVICE_SUB_ALL, NULL, health_on_decision},
    {SUBJECT_OBSERVATION ">", SERVICE_SUB_ALL, PB_DESC(observation), health_on_observation},
    {SUBJECT_TRAFFIC ">", SERVICE_SUB_ALL, PB_DESC(traffic_summary), health_on_traffic},
};
static const struct service_cmd cmds[] = {
    {"show", PB_DESC(health_command), health_on_show},
    {"maintain", PB_DESC(health_command), health_on_maintain},
    {"resume", PB_DESC(health_command), health_on_resume},
    {"probe", PB_DESC(health_command), health_on_probe},
};
static const struct service_timer timers[] = {
    {500, health_on_tick},       /* what ends by itself: tilts, questions, link faults, maintenances, memberships */
    {1000, health_on_silence},   /* whether the alert service is still heard */
    {5000, health_on_sweep},     /* what was left unannounced, documents that are gone */
    {10000, health_on_lateness}, /* the metric */
    {10000, health_on_ping},     /* whom of the suite we hear */
};

static const struct service_desc health = {
    .name = "health",
    .description = "watches LLM APIs, backends and agents",
    .needs = SERVICE_STORE | SERVICE_HTTP | SERVICE_OUTBOX,
    SERVICE_TABLE(subs),
    SERVICE_TABLE(cmds),
    SERVICE_TABLE(timers),
    .start = health_start,
    .on_bus_up = health_on_bus_up,
    .on_bus_down = health_on_bus_down,
    .on_watch_synced = health_on_synced,
    .on_store_up = health_on_store_up,
    .on_store_down = health_on_store_down,
    .on_reload = health_on_reload,
    .drain = health_drain,
    .stop = health_stop,
};

int main(int argc, char **argv)
{
    return service_main(argc, argv, &health);
}
