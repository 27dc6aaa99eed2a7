/* wire.h - protobuf in and out: bounded unpacking, full validation, packing. Short names for the generated types. */
#ifndef REDOUBT_WIRE_H
#define REDOUBT_WIRE_H

#include "common/err.h"
#include "redoubt/v1/action.pb-c.h"
#include "redoubt/v1/alert.pb-c.h"
#include "redoubt/v1/audit.pb-c.h"
#include "redoubt/v1/breaker.pb-c.h"
#include "redoubt/v1/command.pb-c.h"
#include "redoubt/v1/common.pb-c.h"
#include "redoubt/v1/continuity.pb-c.h"
#include "redoubt/v1/decision.pb-c.h"
#include "redoubt/v1/fallback.pb-c.h"
#include "redoubt/v1/health.pb-c.h"
#include "redoubt/v1/heartbeat.pb-c.h"
#include "redoubt/v1/incident.pb-c.h"
#include "redoubt/v1/report.pb-c.h"
#include "redoubt/v1/rollback.pb-c.h"
#include <stddef.h>
#include <stdint.h>

/* PB(BreakerChanged) is the C type, PB_INIT(BREAKER_CHANGED) its initialiser, PB_DESC(breaker_changed) its descriptor. */
#define PB(type)      Redoubt__V1__##type
#define PB_INIT(NAME) REDOUBT__V1__##NAME##__INIT
#define PB_DESC(name) (&redoubt__v1__##name##__descriptor)

/* Unpacks `len` bytes as `desc`. Refuses: more than MESSAGE_MAX bytes, allocation of more than WIRE_ALLOC_MAX, malformed
 * bytes, an empty buffer, a field given twice, unknown enum values, strings that are too long, not UTF-8 or hold NUL, too
 * many repeated fields, a missing required field (rules in wire_rules.c, per message). Fields that a newer sender knows
 * and we don't are skipped. On success the caller frees with wire_free().
 * NULL on error, with the text in *e. */
#define WIRE_ALLOC_MAX (512 * 1024)
void *wire_unpack(const ProtobufCMessageDescriptor *desc, const void *data, size_t len, struct err *e);
void wire_free(void *message); /* NULL is fine */

/* The checks of wire_unpack() on a message in memory, but for its packed size: for senders' tests. 0 or -1. */
int wire_check(const void *message, struct err *e);

/* Packs into a malloc'ed buffer; *ret_len gets its length. NULL if the message is not valid by wire_check() (a bug of
 * the sender: the text says which field) or memory is out. Free with free(). */
void *wire_pack(const void *message, size_t *ret_len, struct err *e);

/* "redoubt.v1.BreakerChanged": the ce-type header of a message. */
const char *wire_type(const void *message);
/* Descriptor by full name or ce-type, NULL if unknown; and the descriptor that a subject carries (for `redoubt tail`). */
const ProtobufCMessageDescriptor *wire_by_name(const char *full_name);
const ProtobufCMessageDescriptor *wire_by_subject(const char *subject);
/* Name of an enum value without its prefix ("OPEN"), "?" if unknown. */
const char *wire_enum_name(const ProtobufCEnumDescriptor *desc, int value);
/* The message as JSON text in one line, malloc'ed; NULL if memory is out or a string is not UTF-8. proto3 JSON mapping
 * (lowerCamelCase names, bytes as base64) with 64-bit numbers as numbers and enum names without prefix. Every field is
 * there (of a oneof the one that is set): unset ones as 0, false, "", [] or null. */
char *wire_json(const void *message);

#endif
