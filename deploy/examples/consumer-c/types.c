/* types.c - the messages that REDOUBT_STATE keeps (proto/README.md), as protoc-c has made them of the .proto files. */
#include "types.h"
#include "redoubt/v1/alert.pb-c.h"
#include "redoubt/v1/audit.pb-c.h"
#include "redoubt/v1/breaker.pb-c.h"
#include "redoubt/v1/continuity.pb-c.h"
#include "redoubt/v1/fallback.pb-c.h"
#include "redoubt/v1/health.pb-c.h"
#include "redoubt/v1/incident.pb-c.h"
#include "redoubt/v1/rollback.pb-c.h"
#include <string.h>

static const ProtobufCMessageDescriptor *const types[] = {
    &redoubt__v1__health_changed__descriptor,
    &redoubt__v1__breaker_changed__descriptor,
    &redoubt__v1__directive__descriptor,
    &redoubt__v1__rollback_changed__descriptor,
    &redoubt__v1__version_record__descriptor,
    &redoubt__v1__work_share__descriptor,
    &redoubt__v1__problem_changed__descriptor,
    &redoubt__v1__silence__descriptor,
    &redoubt__v1__pulse__descriptor,
    &redoubt__v1__audit_checkpoint__descriptor,
    &redoubt__v1__incident_changed__descriptor,
    &redoubt__v1__availability_state__descriptor,
    &redoubt__v1__demonstrations__descriptor,
    &redoubt__v1__backup_state__descriptor,
    &redoubt__v1__drill_state__descriptor,
    &redoubt__v1__config_state__descriptor,
    &redoubt__v1__continuity_status__descriptor,
    &redoubt__v1__continuity_time__descriptor,
};

const ProtobufCMessageDescriptor *types_find(const char *name)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(types[i]->name, name) == 0)
            return types[i];
    return NULL;
}
