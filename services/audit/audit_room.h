/* audit_room.h - the trail's room on its disks, pure: how much is free -> which records are taken, where they go, what is said. No I/O, no clock. */
#ifndef REDOUBT_AUDIT_ROOM_H
#define REDOUBT_AUDIT_ROOM_H

#include <stdbool.h>
#include <stdint.h>

/* The ladder, from room enough to nowhere. */
enum audit_room_step {
    AUDIT_ROOM_OK,
    AUDIT_ROOM_WARN,          /* people are told */
    AUDIT_ROOM_STRICT,        /* only strict records are taken; the others wait on the stream */
    AUDIT_ROOM_SECOND,        /* the first directory takes nothing more: new segments begin in the second */
    AUDIT_ROOM_SECOND_STRICT, /* and that has little room, too */
    AUDIT_ROOM_FULL,          /* nothing can be written anywhere */
    AUDIT_ROOM_STEPS,
};
/* What a step means, as data. */
struct audit_room_row {
    const char *name;
    bool strict_only;
    bool critical;
    const char *summary; /* of the alert */
};
extern const struct audit_room_row audit_room_rows[AUDIT_ROOM_STEPS];

/* One directory's disk. LOW: below stop_free. FULL: nothing more goes in. */
enum audit_room_level { AUDIT_LEVEL_ROOMY, AUDIT_LEVEL_TIGHT, AUDIT_LEVEL_LOW, AUDIT_LEVEL_FULL };
enum { AUDIT_FIRST, AUDIT_SECOND, AUDIT_VOLUMES };

struct audit_room_rule {
    int64_t warn_free, stop_free; /* percent */
    bool second;                  /* there is a second directory */
};
struct audit_room {
    enum audit_room_step step;
    int volume; /* new segments begin here */
    enum audit_room_level level[AUDIT_VOLUMES];
    int64_t refused_ms[AUDIT_VOLUMES]; /* a write failed last; 0 = never */
    int64_t hold_ms[AUDIT_VOLUMES];    /* so long after that it is not tried again */
};

/* Room comes back only with so much more than the limit, and after a failed write not at once: nothing flaps. */
#define AUDIT_ROOM_MARGIN_PERCENT 2
#define AUDIT_ROOM_FLOOR_BYTES    (4 * INT64_C(1048576)) /* less than this free is full: a batch must fit */
#define AUDIT_ROOM_HOLD_MS        10000                  /* twice as long each time that it fails again soon */
#define AUDIT_ROOM_HOLD_MAX_MS    1800000

struct audit_room_event {
    enum { AUDIT_ROOM_LOOKED, AUDIT_ROOM_REFUSED } kind;
    int volume;
    int64_t total_bytes, free_bytes; /* LOOKED; total 0 = its disk does not answer */
};
/* True if the step or the volume is another now. */
bool audit_room_decide(struct audit_room *r, const struct audit_room_rule *rule, const struct audit_room_event *ev,
                       int64_t now_ms);
/* What always holds between step, volume and levels. */
bool audit_room_sane(const struct audit_room *r, const struct audit_room_rule *rule);

#endif
