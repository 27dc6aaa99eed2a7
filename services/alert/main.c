/* main.c - redoubt-alert: tells people, one channel after another, until one has accepted. */
#include "alert/alert_body.h"
#include "alert/alert_order.h"
#include "alert/alert_room.h"
#include "alert/alert_template.h"
#include <string.h>

static const struct service_cmd cmds[] = {
    {"test", PB_DESC(alert_command), alert_on_test},
    {"show", NULL, alert_on_show},
    {"list", PB_DESC(alert_command), alert_on_list},
    {"problem", PB_DESC(alert_command), alert_on_problem},
    {"ack", PB_DESC(alert_command), alert_on_ack},
    {"unack", PB_DESC(alert_command), alert_on_unack},
    {"silence", PB_DESC(alert_command), alert_on_silence},
    {"unsilence", PB_DESC(alert_command), alert_on_unsilence},
    {"silences", PB_DESC(alert_command), alert_on_silences},
};

static const struct service_desc alert = {
    .name = "alert",
    .description = "tells people: mail, Slack, record; the first channel that accepts ends it",
    .needs = SERVICE_STORE | SERVICE_HTTP | SERVICE_OUTBOX,
    SERVICE_TABLE(cmds),
    .check = alert_template_check,
    .start = alert_start,
    .on_bus_up = alert_on_bus_up,
    .on_store_up = alert_on_store_up,
    .on_store_down = alert_on_store_down,
    .on_reload = alert_on_reload,
    .drain = alert_drain,
    .stop = alert_stop,
};

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], ALERT_BODY_ARG) == 0)
        return alert_body_process();
    return service_main(argc, argv, &alert);
}
