/* The schema as tables. A test holds them to schema.json. */
#include "train/commands/slots.h"

static const char *const domains[] = {
    "light",   "fan",          "switch", "cover",  "lock",          "valve",  "scene", "script",
    "climate", "media_player", "vacuum", "sensor", "binary_sensor", "person", NULL};
static const char *const device_classes[] = {"aqi",
                                             "atmospheric_pressure",
                                             "awning",
                                             "battery",
                                             "battery_charging",
                                             "blind",
                                             "carbon_dioxide",
                                             "carbon_monoxide",
                                             "cold",
                                             "connectivity",
                                             "current",
                                             "curtain",
                                             "door",
                                             "energy",
                                             "garage",
                                             "garage_door",
                                             "gas",
                                             "gate",
                                             "heat",
                                             "humidity",
                                             "illuminance",
                                             "light",
                                             "lock",
                                             "moisture",
                                             "motion",
                                             "occupancy",
                                             "opening",
                                             "plug",
                                             "pm25",
                                             "power",
                                             "precipitation",
                                             "presence",
                                             "pressure",
                                             "problem",
                                             "running",
                                             "safety",
                                             "shade",
                                             "shutter",
                                             "smoke",
                                             "sound",
                                             "tamper",
                                             "temperature",
                                             "update",
                                             "vibration",
                                             "voltage",
                                             "water",
                                             "wind_speed",
                                             "window",
                                             NULL};
static const char *const states[] = {"on",     "off",      "open", "closed",   "opening", "closing",
                                     "locked", "unlocked", "home", "not_home", NULL};
static const char *const colors[] = {"white", "black",  "red",   "orange", "yellow",    "green",
                                     "blue",  "purple", "brown", "pink",   "turquoise", NULL};
static const char *const changes[] = {"up", "down", NULL};
static const char *const media_classes[] = {"artist",  "album", "track",   "playlist",
                                            "podcast", "movie", "tv_show", NULL};

const struct slot_info slot_infos[N_SLOTS] = {
    [SLOT_NAME] = {"name", SLOT_TEXT, 1, 64, NULL},
    [SLOT_AREA] = {"area", SLOT_TEXT, 1, 64, NULL},
    [SLOT_FLOOR] = {"floor", SLOT_TEXT, 1, 64, NULL},
    [SLOT_DOMAIN] = {"domain", SLOT_WORD, 0, 0, domains},
    [SLOT_DEVICE_CLASS] = {"device_class", SLOT_WORD, 0, 0, device_classes},
    [SLOT_STATE] = {"state", SLOT_WORD, 0, 0, states},
    [SLOT_BRIGHTNESS] = {"brightness", SLOT_WHOLE, 0, 100, NULL},
    [SLOT_COLOR] = {"color", SLOT_WORD, 0, 0, colors},
    [SLOT_TEMPERATURE] = {"temperature", SLOT_HALF, 0, 200, NULL},
    [SLOT_POSITION] = {"position", SLOT_WHOLE, 0, 100, NULL},
    [SLOT_VOLUME_LEVEL] = {"volume_level", SLOT_WHOLE, 0, 100, NULL},
    [SLOT_CHANGE] = {"change", SLOT_WORD, 0, 0, changes},
    [SLOT_BY] = {"by", SLOT_HALF, 1, 200, NULL},
    [SLOT_HOURS] = {"hours", SLOT_WHOLE, 1, 100, NULL},
    [SLOT_MINUTES] = {"minutes", SLOT_WHOLE, 1, 100, NULL},
    [SLOT_SECONDS] = {"seconds", SLOT_WHOLE, 1, 100, NULL},
    [SLOT_START_HOURS] = {"start_hours", SLOT_WHOLE, 1, 100, NULL},
    [SLOT_START_MINUTES] = {"start_minutes", SLOT_WHOLE, 1, 100, NULL},
    [SLOT_START_SECONDS] = {"start_seconds", SLOT_WHOLE, 1, 100, NULL},
    [SLOT_ITEM] = {"item", SLOT_TEXT, 1, 128, NULL},
    [SLOT_SEARCH_QUERY] = {"search_query", SLOT_TEXT, 1, 128, NULL},
    [SLOT_MEDIA_CLASS] = {"media_class", SLOT_WORD, 0, 0, media_classes},
    [SLOT_MESSAGE] = {"message", SLOT_TEXT, 1, 256, NULL},
    [SLOT_CONVERSATION_COMMAND] = {"conversation_command", SLOT_TEXT, 1, 256, NULL},
};

#define NAME SLOT_BIT(SLOT_NAME)
#define AREA SLOT_BIT(SLOT_AREA)
#define FLOOR SLOT_BIT(SLOT_FLOOR)
#define WHERE (NAME | AREA | FLOOR)
#define KIND (SLOT_BIT(SLOT_DOMAIN) | SLOT_BIT(SLOT_DEVICE_CLASS))
#define STATE SLOT_BIT(SLOT_STATE)
#define CHANGE SLOT_BIT(SLOT_CHANGE)
#define CHANGE_BY (CHANGE | SLOT_BIT(SLOT_BY))
#define BRIGHTNESS SLOT_BIT(SLOT_BRIGHTNESS)
#define COLOR SLOT_BIT(SLOT_COLOR)
#define DEGREES SLOT_BIT(SLOT_TEMPERATURE)
#define POSITION SLOT_BIT(SLOT_POSITION)
#define VOLUME SLOT_BIT(SLOT_VOLUME_LEVEL)
#define LENGTH (SLOT_BIT(SLOT_HOURS) | SLOT_BIT(SLOT_MINUTES) | SLOT_BIT(SLOT_SECONDS))
#define START                                                                                      \
    (SLOT_BIT(SLOT_START_HOURS) | SLOT_BIT(SLOT_START_MINUTES) | SLOT_BIT(SLOT_START_SECONDS))
#define ITEM SLOT_BIT(SLOT_ITEM)
#define QUERY SLOT_BIT(SLOT_SEARCH_QUERY)
#define MEDIA SLOT_BIT(SLOT_MEDIA_CLASS)
#define MESSAGE SLOT_BIT(SLOT_MESSAGE)
#define COMMAND SLOT_BIT(SLOT_CONVERSATION_COMMAND)

const struct intent_info intent_infos[N_INTENTS] = {
    {"HassTurnOn", WHERE | KIND, 0, WHERE | KIND},
    {"HassTurnOff", WHERE | KIND, 0, WHERE | KIND},
    {"HassGetState", WHERE | KIND | STATE, 0, WHERE | KIND | STATE},
    {"HassLightSet", WHERE | BRIGHTNESS | COLOR | CHANGE_BY, 0, BRIGHTNESS | COLOR | CHANGE},
    {"HassSetPosition", WHERE | KIND | POSITION, POSITION, 0},
    {"HassClimateSetTemperature", WHERE | DEGREES | CHANGE_BY, 0, DEGREES | CHANGE},
    {"HassClimateGetTemperature", WHERE, 0, 0},
    {"HassSetVolume", NAME | AREA | VOLUME | CHANGE_BY, 0, VOLUME | CHANGE},
    {"HassMediaSearchAndPlay", NAME | AREA | QUERY | MEDIA, QUERY, 0},
    {"HassMediaPause", NAME | AREA, 0, 0},
    {"HassMediaUnpause", NAME | AREA, 0, 0},
    {"HassMediaNext", NAME | AREA, 0, 0},
    {"HassMediaPrevious", NAME | AREA, 0, 0},
    {"HassStartTimer", NAME | LENGTH | COMMAND, 0, LENGTH},
    {"HassIncreaseTimer", NAME | AREA | LENGTH | START, 0, LENGTH},
    {"HassDecreaseTimer", NAME | AREA | LENGTH | START, 0, LENGTH},
    {"HassCancelTimer", NAME | AREA | START, 0, 0},
    {"HassPauseTimer", NAME | AREA | START, 0, 0},
    {"HassUnpauseTimer", NAME | AREA | START, 0, 0},
    {"HassTimerStatus", NAME | AREA | START, 0, 0},
    {"HassCancelAllTimers", AREA, 0, 0},
    {"HassShoppingListAddItem", ITEM, ITEM, 0},
    {"HassListAddItem", NAME | ITEM, NAME | ITEM, 0},
    {"HassVacuumStart", WHERE, 0, 0},
    {"HassVacuumReturnToBase", NAME | AREA, 0, 0},
    {"HassGetWeather", NAME, 0, 0},
    {"HassGetCurrentTime", 0, 0, 0},
    {"HassGetCurrentDate", 0, 0, 0},
    {"HassBroadcast", MESSAGE, MESSAGE, 0},
    {"HassNevermind", 0, 0, 0},
    {"Unknown", 0, 0, 0},
};

unsigned slot_find(struct strview name)
{
    unsigned i = 0;

    while (i < N_SLOTS && !strview_is(name, slot_infos[i].name)) {
        i++;
    }
    return i;
}

unsigned intent_find(struct strview name)
{
    unsigned i = 0;

    while (i < N_INTENTS && !strview_is(name, intent_infos[i].name)) {
        i++;
    }
    return i;
}

/* In halves: "21.5" is 43; -1: no such number, or more than 5000. */
static int halves_of(struct strview v)
{
    int n = 0;
    size_t i = 0;

    while (i < v.n && v.data[i] >= '0' && v.data[i] <= '9' && n <= 5000) {
        n = n * 10 + (v.data[i++] - '0');
    }
    if (i == 0 || n > 5000 || (i > 1 && v.data[0] == '0')) {
        return -1;
    }
    if (i == v.n) {
        return 2 * n;
    }
    return v.n == i + 2 && v.data[i] == '.' && v.data[i + 1] == '5' ? 2 * n + 1 : -1;
}

bool slot_takes(enum slot slot, struct strview value)
{
    const struct slot_info *s = &slot_infos[slot];

    if (s->kind == SLOT_TEXT) {
        return value.n >= s->min && value.n <= s->max;
    }
    if (s->kind == SLOT_WORD) {
        const char *const *word = s->words;
        while (*word && !strview_is(value, *word)) {
            word++;
        }
        return *word != NULL;
    }
    const int halves = halves_of(value);
    if (halves < 0 || (s->kind == SLOT_WHOLE && halves % 2 != 0)) {
        return false;
    }
    const uint32_t n = (uint32_t)halves / (s->kind == SLOT_WHOLE ? 2 : 1);
    return n >= s->min && n <= s->max;
}

const char *slots_fault(unsigned intent, uint32_t have)
{
    const struct intent_info *i = &intent_infos[intent];

    if (have & ~i->may) {
        return "has a slot that its intent does not take";
    }
    if ((have & i->must) != i->must) {
        return "lacks a slot that its intent needs";
    }
    if (i->one_of && !(have & i->one_of)) {
        return "has none of the slots of which its intent needs one";
    }
    if ((have & SLOT_BIT(SLOT_BY)) && !(have & CHANGE)) {
        return "has by without change";
    }
    if ((have & CHANGE) && (have & (BRIGHTNESS | DEGREES | VOLUME))) {
        return "has both a value and a change";
    }
    return NULL;
}
