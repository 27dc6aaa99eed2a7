/* traffic_replicas.c - traffic between two Deployments. */
#include "rollback/rollback_traffic.h"

static struct traffic *open_replicas(struct service *s, const struct set_deployment *set, struct err *e)
{
    (void)s;
    err_set(e, "%s: traffic replicas is not there yet", set->name);
    return NULL;
}

const struct traffic_kind traffic_replicas = {.name = "replicas", .open = open_replicas};
