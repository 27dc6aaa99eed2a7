/* fallback_effects.c - the hooks by which the shell's life reaches its further effects. */
#include "fallback/fallback_effects.h"
#include "fallback/fallback_shell.h"
#include <stdlib.h>

void effects_open(struct shell *sh)
{
    sh->fx.wave_at_ms = INT64_MAX;
    loop_timer_init(&sh->s->loop, &sh->fx.wave, wave_on_due, sh);
    baseline_watch_open(sh);
    wave_limits(sh);
}

void effects_reload(struct shell *sh)
{
    wave_limits(sh);
    baseline_watch_reload(sh);
}

void effects_tick(struct shell *sh, int64_t now_mono_ms)
{
    wave_tick(sh);
    for (struct agent *a = sh->agents, *next; a; a = next) {
        next = a->hh.next;
        if (a->place == HERE)
            monitor_tick(a, now_mono_ms);
    }
}

void effects_close(struct shell *sh)
{
    restarts_close(sh);
    loop_timer_close(&sh->fx.wave, NULL);
    loop_timer_close(&sh->fx.look, NULL);
}

void effects_free(struct shell *sh)
{
    baseline_free(sh->fx.baseline);
}

void effects_forget(struct agent *a)
{
    fence_drop(a);
    wave_count(a, NULL);
    intake_leave(&a->fx.place);
    a->fx.monitor.due_mono_ms = 0;
    a->fx.monitor.told = 0;
    a->fx.rolling[0] = '\0';
}

void effects_agent_free(struct agent *a)
{
    effects_forget(a);
    free(a->fx.unfit);
}
