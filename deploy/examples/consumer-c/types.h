/* types.h - the messages that REDOUBT_STATE keeps, by the name that their header ce-type has. */
#ifndef CONSUMER_TYPES_H
#define CONSUMER_TYPES_H

#include <protobuf-c/protobuf-c.h>

/* "redoubt.v1.BreakerChanged"; NULL if it is none that this program knows. */
const ProtobufCMessageDescriptor *types_find(const char *name);

#endif
