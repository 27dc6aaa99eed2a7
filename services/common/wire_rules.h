/* wire_rules.h - what the contract says about single fields, as rows. Private to wire*.c. */
#ifndef REDOUBT_WIRE_RULES_H
#define REDOUBT_WIRE_RULES_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

enum wire_kind {
    WIRE_TEXT,    /* min..max bytes */
    WIRE_TOKEN,   /* name_token_ok */
    WIRE_TARGET,  /* name_target_ok */
    WIRE_ID,      /* [A-Za-z0-9_-], up to max bytes */
    WIRE_KEY,     /* [a-z0-9_.-], up to max bytes */
    WIRE_BYTES,   /* min..max bytes */
    WIRE_NUMBER,  /* min..max */
    WIRE_SET,     /* an enumeration that must not be UNSPECIFIED */
    WIRE_PRESENT, /* a sub-message that must be there */
    WIRE_MESSAGE, /* a sub-message that may be there; for lists */
};

/* Strings of every kind may be empty if min is 0. A repeated field holds count_min..count_max items, each by the rule. */
struct wire_rule {
    uint32_t tag;
    const char *field;
    enum wire_kind kind;
    int64_t min, max;
    size_t count_min, count_max;
};
/* The rows of one message, in order of tag. Fields without a row go by WIRE_DEFAULT_* below. */
struct wire_rules {
    const ProtobufCMessageDescriptor *desc;
    const struct wire_rule *rows;
    size_t n;
};
extern const struct wire_rules wire_rules[];
extern const size_t wire_rules_n;

#define WIRE_DEFAULT_TEXT_MAX  1024
#define WIRE_DEFAULT_BYTES_MAX 49152
#define WIRE_DEFAULT_COUNT_MAX 64
/* int64 holds points in time: 0 to the end of the year 9999. */
#define WIRE_DEFAULT_INT64_MAX INT64_C(253402300799999)

/* Bytes that one item of a repeated field of this type takes in memory. */
size_t wire_item_size(ProtobufCType t);

#endif
