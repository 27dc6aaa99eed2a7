/* main.c - redoubt-audit: the tamper-evident trail. */
#include "audit/audit_shell.h"

static const struct service_cmd commands[] = {{"status", NULL, audit_on_status}};
static const struct service_timer timers[] = {
    {10000, audit_on_checkpoint}}; /* a checkpoint every 10 s, if anything came */

static const struct service_desc audit = {
    .name = "audit",
    .description = "keeps the tamper-evident audit trail",
    .needs = SERVICE_OUTBOX,
    .cmds = commands,
    .n_cmds = sizeof commands / sizeof *commands,
    .timers = timers,
    .n_timers = sizeof timers / sizeof *timers,
    .start = audit_start,
    .drain = audit_drain,
    .stop = audit_stop,
};

int main(int argc, char **argv)
{
    return service_main(argc, argv, &audit);
}
