-- Copyright (c) 2026, The rondo.upgrade authors
-- GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later
--
-- Holds the requests of a service inside HAProxy while the service is away.
--
--     global
--         setenv RONDO_HOLD keystone,mariadb                        # the services that may be held; before lua-load
--         lua-load /etc/haproxy/rondo_hold.lua
--     frontend keystone                                             # HTTP: every request, also on kept-alive connections
--         http-request lua.rondo_hold keystone
--     frontend mariadb                                              # TCP: every new connection
--         tcp-request inspect-delay 10m                             # longer than any hold; delays nothing by itself
--         tcp-request content lua.rondo_hold mariadb
--
-- On the runtime socket:
--
--     rondo hold                                                    status, one line a service
--     rondo hold SERVICE on SECONDS release|reject [max_waiting=N] [on_limit=release|reject] [max_memory=BYTES]
--                                                  [retry_after=N] [owner=NAME]
--     rondo hold SERVICE off [release|reject]
--     rondo hold SERVICE test TOKEN SECONDS                         holds requests with the header X-Rondo-Hold: TOKEN
--     rondo hold SERVICE untest TOKEN
--
-- Changes are answered "ok ..." or "refused: ...".
--
-- A request waits in short sleeps of its own and looks at the service's state in between. HAProxy lets one thread at a
-- time run this code (lua-load, not lua-load-per-thread), and takes the processor from it only where it sleeps or after
-- `tune.lua.forced-yield` instructions: what must not be torn apart here is kept far shorter than that.

local PROTOCOL = 1

-- Under this many the step between two looks is the shortest; above it grows, so that looking costs a bounded number of
-- wake-ups a second however many wait.
local STEP_MS, LONGEST_STEP_MS, WAITING_PER_MS = 20, 250, 10

-- Releasing all at once would hit servers that have just come up. Those that wait go one after another, in the order in
-- which they came, within this much time in all.
local SPREAD_MS, SPACING_MS = 1000, 1

-- Where the machine wakes them late, each lets those before it go first, for at most so long: some may never leave,
-- because their client hung up.
local COURTESY_MS = 100

-- A clock that jumps (NTP, a paused machine) counts at most this much at once.
local LARGEST_TICK_MS, TICK_MS, LOOK_MS = 1000, 50, 200

local TESTS_AT_MOST, TEST_SECONDS_AT_MOST = 4, 60
local RATE_SECONDS = 10

if core.thread ~= nil and core.thread ~= 0 then
    error("rondo_hold.lua needs `lua-load`: with `lua-load-per-thread` each thread would have a hold of its own")
end

local services, names = {}, {}

-- Not arguments of lua-load: 2.6 takes them and does not hand them on.
for name in (os.getenv("RONDO_HOLD") or ""):gmatch("[^,%s]+") do
    if not name:match("^[%w_.-]+$") then
        error("rondo_hold.lua: a service's name may have letters, digits, '_', '.' and '-', not: " .. name)
    end
    if services[name] == nil then
        names[#names + 1] = name
        services[name] = {
            name = name,
            tests = {},
            state = "off",                 -- off, on, or releasing: the time in which those that waited go in their order
            hold = 0,                      -- counts holds: a request knows by it that its own hold is over
            waiting = 0, seen = 0, rates = {},
            held = 0, released = 0, rejected = 0, greatest = 0, longest = 0, memory = 0,
            action = "release", ended = "never", owner = "-", left_ms = 0, age_ms = 0,
        }
    end
end

local function now_ms()
    local now = core.now()
    return now.sec * 1000 + now.usec // 1000
end

-- Bytes: HAProxy's own pools, and what the waiting requests' coroutines take beside them.
local function memory()
    return (tonumber(core.get_info()["PoolUsed_bytes"]) or 0) + math.floor(collectgarbage("count") * 1024)
end

local function step_of(service)
    return math.max(STEP_MS, math.min(LONGEST_STEP_MS, service.waiting // WAITING_PER_MS))
end

-- The oldest that still waits; each ticket is passed over once in all.
local function oldest(service)
    local ticket = service.oldest
    while ticket < service.tail and service.since[ticket] == nil do ticket = ticket + 1 end
    service.oldest = math.max(service.oldest, ticket)
    return ticket
end

-- Those that came before `tail` go from `base` on, `spacing` apart; all have looked by then.
local function finish(service, action, why)
    if service.state ~= "on" then return end
    service.state = "releasing"
    service.action = action
    service.ended = why
    service.first = oldest(service)
    local still = math.max(1, service.tail - service.first)
    service.spacing = math.min(SPACING_MS, SPREAD_MS / still)
    service.base = now_ms() + step_of(service)
    service.end_ms = service.base + math.ceil(still * service.spacing)
    service.left_ms = 0
end

-- A hold's time is counted by a task of its own, not by the requests: the hold ends though none comes, and the wall
-- clock may be set meanwhile.
local function watch(service)
    local hold, last = service.hold, now_ms()
    while service.state ~= "off" and service.hold == hold do
        core.msleep(math.max(1, math.min(TICK_MS, service.state == "on" and service.left_ms or TICK_MS)))
        if service.hold ~= hold then return end
        local now = now_ms()
        local passed = now - last
        if passed < 0 then passed = TICK_MS end
        passed = math.min(passed, LARGEST_TICK_MS)
        last = now
        service.age_ms = service.age_ms + passed
        if service.state == "on" then
            service.left_ms = service.left_ms - passed
            local used = 0
            if service.age_ms >= service.next_look_ms then
                service.next_look_ms = service.age_ms + LOOK_MS
                used = memory() - service.memory_before
                if used > service.memory then
                    -- Some of it may be garbage.
                    collectgarbage()
                    used = memory() - service.memory_before
                    service.memory = math.max(service.memory, used)
                end
            end
            if service.left_ms <= 0 then
                finish(service, service.action, "deadline")
            elseif service.max_memory > 0 and used >= service.max_memory then
                finish(service, service.on_limit, "max_memory")
            end
        elseif now > service.end_ms + (service.waiting > 0 and 2 * SPREAD_MS or 0) then
            -- Clients that hung up may have taken their requests with them, which then never leave by themselves.
            service.waiting = 0
            service.state = "off"
        end
    end
end

local function leave(service, waited)
    service.waiting = math.max(0, service.waiting - 1)
    if waited > service.longest then service.longest = waited end
end

-- Returns "release" or "reject".
local function wait(service)
    local hold, ticket = service.hold, service.tail
    service.tail = ticket + 1
    service.held = service.held + 1
    service.waiting = service.waiting + 1
    if service.waiting > service.greatest then service.greatest = service.waiting end
    -- If the task that counts the time were lost (no memory left), the request's own sleeps still end its wait.
    local came, slept, at_most = now_ms(), 0, service.left_ms + 2 * SPREAD_MS + 2 * LARGEST_TICK_MS
    local verdict = "release"
    service.since[ticket] = came
    while service.hold == hold and service.state == "on" and slept < at_most do
        local step = step_of(service)
        core.msleep(step)
        slept = slept + step
    end
    if service.hold == hold then
        if service.state == "releasing" then
            verdict = service.action
            local go = service.base + (ticket - service.first) * service.spacing
            local pause = math.floor(math.min(go, service.end_ms) - now_ms())
            if verdict == "release" then
                if pause > 0 then core.msleep(math.min(pause, 2 * SPREAD_MS)) end
                local latest = now_ms() + COURTESY_MS
                while service.hold == hold and oldest(service) < ticket and now_ms() < latest do
                    core.msleep(math.max(1, math.min(20, (ticket - oldest(service)) // 10)))
                end
            end
        end
        service.since[ticket] = nil
        leave(service, math.max(0, now_ms() - came))
        if verdict == "reject" then
            service.rejected = service.rejected + 1
        else
            service.released = service.released + 1
        end
    end
    return verdict
end

local function reject(txn, service)
    if txn.http == nil then
        txn:done()
        return
    end
    local reply = txn:reply({
        status = 503,
        reason = "Service Unavailable",
        headers = {
            ["retry-after"] = {tostring(service.retry_after or 1)},
            ["content-type"] = {"text/plain"},
            ["cache-control"] = {"no-store"},
        },
        body = "The service is being upgraded. Please try again.\n",
    })
    txn:done(reply)
end

local function count(service)
    service.seen = service.seen + 1
    local second = core.now().sec
    local slot = second % (RATE_SECONDS + 1)
    local rate = service.rates[slot]
    if rate == nil or rate.second ~= second then
        service.rates[slot] = {second = second, count = 1}
    else
        rate.count = rate.count + 1
    end
end

-- Requests a second: the mean and the greatest of the last full seconds.
local function arrivals(service)
    local second, sum, peak = core.now().sec, 0, 0
    for _, rate in pairs(service.rates) do
        if rate.second < second and rate.second >= second - RATE_SECONDS then
            sum = sum + rate.count
            if rate.count > peak then peak = rate.count end
        end
    end
    return sum / RATE_SECONDS, peak
end

local function self_test(txn, service)
    local header = txn.http:req_get_headers()["x-rondo-hold"]
    local token = header and header[0]
    local test = token and service.tests[token]
    if test == nil then return end
    txn.http:req_del_header("x-rondo-hold")
    test.waiting = test.waiting + 1
    local slept = 0
    while service.tests[token] == test and slept < test.ms do
        core.msleep(STEP_MS)
        slept = slept + STEP_MS
    end
    test.waiting = test.waiting - 1
    if service.tests[token] == test then service.tests[token] = nil end
end

local function act(txn, name)
    local service = services[name]
    if service == nil then return end
    count(service)
    if txn.http ~= nil and next(service.tests) ~= nil then self_test(txn, service) end
    if service.state == "on" and service.max_waiting > 0 and service.waiting >= service.max_waiting then
        if service.on_limit == "reject" then
            service.rejected = service.rejected + 1
            reject(txn, service)
            return
        end
        finish(service, "release", "max_waiting")
    end
    if service.state == "on" then
        if wait(service) == "reject" then reject(txn, service) end
    elseif service.state == "releasing" and service.action == "release" then
        -- Behind those that waited: what is left of their time is at most one second and one step.
        local pause = math.floor(service.end_ms - now_ms())
        if pause > 0 then core.msleep(math.min(pause, 2 * SPREAD_MS)) end
    end
end

core.register_action("rondo_hold", {"http-req", "tcp-req"}, act, 1)

local function seconds(ms)
    return string.format("%.3f", ms / 1000)
end

local function line_of(service)
    local mean, peak = arrivals(service)
    local longest = service.longest
    if service.waiting > 0 and service.since ~= nil then
        local since = service.since[oldest(service)]
        if since ~= nil then longest = math.max(longest, now_ms() - since) end
    end
    local tests = 0
    for _, test in pairs(service.tests) do tests = tests + test.waiting end
    return table.concat({
        "service=" .. service.name, "state=" .. service.state, "owner=" .. service.owner,
        "action=" .. service.action, "ended=" .. service.ended, "age=" .. seconds(service.age_ms),
        "left=" .. seconds(math.max(0, service.left_ms)), "waiting=" .. service.waiting,
        "greatest=" .. service.greatest, "longest=" .. seconds(longest), "held=" .. service.held,
        "released=" .. service.released, "rejected=" .. service.rejected, "memory=" .. service.memory,
        "max_waiting=" .. (service.max_waiting or 0), "max_memory=" .. (service.max_memory or 0),
        "seen=" .. service.seen, "rate=" .. string.format("%.1f", mean), "peak=" .. peak, "testing=" .. tests,
    }, " ")
end

local function number(word, least, most)
    local value = tonumber(word)
    if value == nil or value ~= value or value < least or value > most then return nil end
    return value
end

local function switch_on(service, span, action, words)
    if service.state ~= "off" then
        return string.format("refused: %s is held already by %s, until in %s s; a hold's deadline is never moved",
            service.name, service.owner, seconds(math.max(0, service.left_ms)))
    end
    span = number(span, 0.001, 86400)
    if span == nil then return "refused: SECONDS is a number above 0 and at most 86400" end
    if action ~= "release" and action ~= "reject" then
        return "refused: after SECONDS comes what happens at the deadline, release or reject"
    end
    local options = {max_waiting = "0", max_memory = "0", retry_after = "1", on_limit = action, owner = "-"}
    for _, word in ipairs(words) do
        local name, value = word:match("^([%l_]+)=([^%s=]+)$")
        if name == nil or options[name] == nil then return "refused: no such option: " .. word end
        options[name] = value
    end
    local max_waiting = number(options.max_waiting, 0, 10000000)
    local max_memory = number(options.max_memory, 0, 1e15)
    local retry_after = number(options.retry_after, 0, 86400)
    if max_waiting == nil or max_memory == nil or retry_after == nil then
        return "refused: max_waiting, max_memory and retry_after are numbers from 0 on"
    end
    if options.on_limit ~= "release" and options.on_limit ~= "reject" then
        return "refused: on_limit is release or reject"
    end
    service.action, service.on_limit, service.owner = action, options.on_limit, options.owner
    service.max_waiting, service.max_memory = math.floor(max_waiting), math.floor(max_memory)
    service.retry_after = math.floor(retry_after)
    service.held, service.released, service.rejected = 0, 0, 0
    service.greatest, service.longest, service.memory, service.age_ms = 0, 0, 0, 0
    service.waiting, service.oldest, service.tail, service.since = 0, 1, 1, {}
    collectgarbage()
    service.memory_before, service.next_look_ms = memory(), 0
    service.left_ms = math.ceil(span * 1000)
    service.ended = "-"
    service.hold = service.hold + 1
    service.state = "on"
    core.register_task(function() watch(service) end)
    return string.format("ok %s is held for at most %s s, then %s", service.name, seconds(service.left_ms), action)
end

local function switch_off(service, action)
    if service.state ~= "on" then return "ok " .. service.name .. " was not held" end
    action = action or "release"
    if action ~= "release" and action ~= "reject" then return "refused: off is followed by release or reject" end
    finish(service, action, "off")
    return "ok " .. service.name .. " is released"
end

local function test_on(service, token, span)
    span = number(span, 0.001, TEST_SECONDS_AT_MOST)
    if token == nil or not token:match("^%w+$") or #token < 16 then
        return "refused: TOKEN has 16 letters and digits or more"
    end
    if span == nil then return "refused: a test lasts at most " .. TEST_SECONDS_AT_MOST .. " seconds" end
    local running = 0
    for _ in pairs(service.tests) do running = running + 1 end
    if running >= TESTS_AT_MOST then return "refused: too many tests are running" end
    local test = {waiting = 0, ms = span * 1000}
    service.tests[token] = test
    core.register_task(function()
        core.msleep(math.ceil(test.ms))
        if service.tests[token] == test then service.tests[token] = nil end
    end)
    return "ok testing " .. service.name
end

local function command(_, _, name, verb, ...)
    if name == nil or name == "" then
        local lines = {"# rondo_hold " .. PROTOCOL}
        for _, known in ipairs(names) do lines[#lines + 1] = line_of(services[known]) end
        return table.concat(lines, "\n")
    end
    local service = services[name]
    if service == nil then
        return "refused: no service " .. name .. "; RONDO_HOLD in the configuration names: " .. table.concat(names, ", ")
    end
    local words = {}
    for _, word in ipairs({...}) do
        if word ~= "" then words[#words + 1] = word end
    end
    if verb == nil or verb == "" then return line_of(service) end
    if verb == "on" then return switch_on(service, words[1], words[2], {table.unpack(words, 3)}) end
    if verb == "off" then return switch_off(service, words[1]) end
    if verb == "test" then return test_on(service, words[1], words[2]) end
    if verb == "untest" then
        if words[1] ~= nil then service.tests[words[1]] = nil end
        return "ok"
    end
    return "refused: after the service comes on, off, test or untest"
end

core.register_cli({"rondo", "hold"}, "rondo hold [SERVICE on|off ...]    : hold a service's requests", function(applet, ...)
    applet:send(command(...) .. "\n")
end)
