/* main.c - redoubt-audit: the tamper-evident trail. */
#include "audit/audit_shell.h"
#include "common/subjects.h"

/* Every replica has a trail of its own: it answers for that one, and for those of replicas that are gone. */
static const struct service_sub subs[] = {
    {SUBJECT_CMD "audit.read", SERVICE_SUB_ALL, PB_DESC(audit_read), audit_on_read},
    {SUBJECT_CMD "audit.rotate", SERVICE_SUB_ALL, PB_DESC(audit_command), audit_on_rotate},
};
static const struct service_cmd cmds[] = {{"status", NULL, audit_on_status}};
static const struct service_timer timers[] = {
    {1000, audit_on_room},
    {2000, audit_on_lag},
    {1000, audit_on_keep},
    {1000, audit_on_wards},
};

static const struct service_desc audit = {
    .name = "audit",
    .description = "keeps the tamper-evident audit trail",
    .needs = SERVICE_OUTBOX,
    SERVICE_TABLE(subs),
    SERVICE_TABLE(cmds),
    SERVICE_TABLE(timers),
    .start = audit_start,
    .drain = audit_drain,
    .stop = audit_stop,
};

int main(int argc, char **argv)
{
    return service_main(argc, argv, &audit);
}
