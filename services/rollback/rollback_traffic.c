/* rollback_traffic.c - which kind of traffic a deployment has. */
#include "rollback/rollback_traffic.h"

const struct traffic_kind *traffic_of(const struct set_deployment *set)
{
    static const struct traffic_kind *const kinds[] = {
        [SET_TRAFFIC_NONE] = &traffic_none,         [SET_TRAFFIC_HAPROXY] = &traffic_haproxy,
        [SET_TRAFFIC_REPLICAS] = &traffic_replicas, [SET_TRAFFIC_HTTPROUTE] = &traffic_httproute,
        [SET_TRAFFIC_NATS] = &traffic_nats,         [SET_TRAFFIC_WEBHOOK] = &traffic_webhook,
    };
    return kinds[set->traffic.type];
}
