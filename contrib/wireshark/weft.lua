-- Wireshark dissector of Weft's formats: TLV messages of RVIs (spec/tlv.md, arena.md, leg-relay.md, capture.md), and the packets that
-- carry them between hosts by UDP and in Ethernet frames of type 0x88b5 (spec/packet.md, leg-ether.md).
--
--   switchctl -f FILE capture --rvi web1 web2 | wireshark -k -i - -X lua_script:contrib/wireshark/weft.lua
--   tshark -X lua_script:contrib/wireshark/weft.lua -r underlay.pcap -Y 'weft.packet.kind == 1'
--
-- Messages captured by switchctl come with the first link type for users (DLT 147). Packets are sealed: their contents are
-- shown as such, but for fabrics that are declared trusted, where they are readable; the tag says nothing to us.

local tlv = Proto("weft", "Weft message")
local packet = Proto("weft.packet", "Weft packet")
local ether = Proto("weft.ether", "Weft Ethernet leg")
local tap = Proto("weft.tap", "Weft capture")

local ETHERTYPE = 0x88b5

-- ------------------------------------------------------------------ fields

local direction_names = { [1] = "in", [2] = "out" }
local peer_names = { [1] = "node", [2] = "control node" }
local tf = {
    version = ProtoField.uint8("weft.tap.version", "Version"),
    channel = ProtoField.uint8("weft.tap.channel", "Channel"),
    direction = ProtoField.uint8("weft.tap.direction", "Direction", base.DEC, direction_names),
    peer_kind = ProtoField.uint8("weft.tap.peer_kind", "Peer is a", base.DEC, peer_names),
    peer = ProtoField.uint16("weft.tap.peer", "Peer"),
    node = ProtoField.uint16("weft.tap.node", "Node with the tap"),
}
tap.fields = tf

local action_names = { [0] = "ignore", [1] = "ignore and notify", [2] = "drop", [3] = "drop and notify" }
local gso_names = { [0] = "none", [1] = "TCP over IPv4", [3] = "UDP fragments", [4] = "TCP over IPv6", [5] = "UDP" }
local f = {
    kind = ProtoField.uint16("weft.kind", "Type", base.HEX),
    action = ProtoField.uint16("weft.unknown_action", "When unknown", base.DEC, action_names, 0xc000),
    flags = ProtoField.uint8("weft.flags", "Flags", base.HEX),
    header_len = ProtoField.uint8("weft.header_len", "Header length in 8 octets"),
    value_len = ProtoField.uint32("weft.value_len", "Value length"),
    name = ProtoField.string("weft.name", "Message"),
    resent = ProtoField.bool("weft.resent", "Sent before", 8, nil, 0x01),
    owner_only = ProtoField.bool("weft.owner_only", "For the owner of its flow alone", 8, nil, 0x10),
    pass_on = ProtoField.bool("weft.pass_on", "To be given back by who does not own its flow", 8, nil, 0x20),
    hop = ProtoField.uint8("weft.hop", "Servers asked before", base.DEC, nil, 0xc0),
    arp_copy = ProtoField.bool("weft.arp_copy", "Copy of a direct frame", 8, nil, 0x02),
    arp_local = ProtoField.bool("weft.arp_local", "Answer comes from a node", 8, nil, 0x04),
    unbound = ProtoField.bool("weft.unbound", "Sender asks for a binding", 8, nil, 0x08),
    lan = ProtoField.uint16("weft.lan", "LAN"),
    origin = ProtoField.uint16("weft.origin", "Origin node"),
    origin_vif = ProtoField.uint16("weft.origin_vif", "Origin interface"),
    destination_vif = ProtoField.uint16("weft.destination_vif", "Destination interface"),
    vnet_needs_sum = ProtoField.bool("weft.vnet.needs_sum", "Sum is to be completed", 8, nil, 0x01),
    vnet_sum_valid = ProtoField.bool("weft.vnet.sum_valid", "Sum has been verified", 8, nil, 0x02),
    vnet_flags = ProtoField.uint8("weft.vnet.flags", "Offload flags", base.HEX),
    vnet_gso = ProtoField.uint8("weft.vnet.gso_type", "Segmentation", base.DEC, gso_names, 0x7f),
    vnet_hdr_len = ProtoField.uint16("weft.vnet.hdr_len", "Headers length"),
    vnet_gso_size = ProtoField.uint16("weft.vnet.gso_size", "Segment size"),
    vnet_sum_start = ProtoField.uint16("weft.vnet.sum_start", "Sum start"),
    vnet_sum_offset = ProtoField.uint16("weft.vnet.sum_offset", "Sum offset"),
    boot = ProtoField.uint16("weft.boot", "Boot tag", base.HEX),
    bseq = ProtoField.uint32("weft.bseq", "bseq"),
    listener = ProtoField.uint16("weft.listener", "Listener's node"),
    location = ProtoField.none("weft.location", "Location"),
    relayed_node = ProtoField.uint16("weft.relayed.node", "Node"),
    relayed_epoch = ProtoField.uint32("weft.relayed.epoch", "Epoch of the pair"),
    item = ProtoField.none("weft.item", "Item"),
}

local tlv_bad = ProtoExpert.new("weft.bad", "The message does not add up", expert.group.MALFORMED, expert.severity.ERROR)
local tlv_unknown = ProtoExpert.new("weft.unknown", "Unknown type", expert.group.UNDECODED, expert.severity.WARN)
tlv.experts = { tlv_bad, tlv_unknown }

-- ------------------------------------------------- control messages, as in the table of spec/tlv.md

local location = {
    { "cabinet", "u16" }, { "node", "u16" }, { "rvi", "u32" }, { "channel", "u8" }, { "reserved", "u8" }, { "vif", "u16" },
    { "lan_id", "u16" }, { "reserved", "u16" }, { "process", "u64" },
}
local held_interface = { { "lan_id", "u16" }, { "vif", "u16" }, { "mac", "mac" } }
local held_direct = {
    { "rvi", "u32" }, { "lan_id", "u16" }, { "peer", "u16" }, { "channel", "u8" }, { "vif", "u16" }, { "peer_vif", "u16" },
}
local served_cluster = {
    { "addresses", "list", { { "address", "ip" } } },
    { "services", "list", { { "protocol", "u8" }, { "port", "u16" }, { "is_kept", "bool" } } },
}
local flow = {
    { "protocol", "u8" }, { "client", "ip" }, { "client_port", "u16" }, { "address", "ip" }, { "port", "u16" },
}
local listening = { { "address", "ip" }, { "protocol", "u8" }, { "port", "u16" }, { "listens", "bool" } }
local joined_group = { { "group", "ip" }, { "cause", "u8" } }
local held_leg = { { "leg", "u8" }, { "leg_kind", "u8" } }
local held_association = { { "peer", "u16" }, { "process", "u64" }, { "epoch", "u32" }, { "held_leg", "list", held_leg } }
local offered_leg = { { "leg", "u8" }, { "leg_address", "leg_address" } }
local granted_leg = { { "leg", "u8" }, { "leg_address", "leg_address" }, { "trusted", "bool" }, { "fabric_key", "u16" } }
local counter = { { "counter", "text" }, { "value", "u64" } }
local dropped_frame = {
    { "vif", "u16" }, { "drop_reason", "text" }, { "age_ms", "u64" }, { "frame_octets", "u32" }, { "headers", "list", { { "octet", "u8" } } },
}
local octet = { { "octet", "u8" } }
-- Of a group frame in a broadcast arena, behind the base header (spec/arena.md).
local reference = {
    { "lan_id", "u16" }, { "vif", "u16" }, { "arena", "u32" }, { "segment", "u32" }, { "offset", "u32" }, { "octets", "u32" },
    { "stay", "u16" }, { "reserved", "u16" },
}

local messages = {
    [0x0020] = { "HEARTBEAT", { { "number", "u32" } } },
    [0x0021] = { "HEARTBEAT_REPLY", { { "number", "u32" } } },
    [0xc030] = { "REGISTER", {
        { "tlv_version", "u16" }, { "node", "u16" }, { "process", "u64" }, { "held_interface", "list", held_interface },
        { "held_direct", "list", held_direct }, { "held_association", "list", held_association },
        { "offered_leg", "list", offered_leg },
    } },
    [0xc031] = { "REGISTERED", { { "configuration", "u64" } } },
    [0xc032] = { "BIND", { { "vif", "u16" }, { "address", "prefix" } } },
    [0xc033] = { "UNBIND", { { "vif", "u16" }, { "address", "ip" } } },
    [0xc034] = { "MEMBER", {
        { "lan_id", "u16" }, { "node", "u16" }, { "vif", "u16" }, { "mac", "mac" }, { "process", "u64" }, { "attached", "bool" },
    } },
    [0xc035] = { "BINDING", { { "mac", "mac" }, { "location", "record", location } } },
    [0xc036] = { "REFUSED", { { "reason", "text" } } },
    [0xc037] = { "FENCED", {} },
    [0xc038] = { "GROUPS", {
        { "vif", "u16" }, { "more", "bool" }, { "every_group", "bool" }, { "joined_group", "list", joined_group },
        { "left_groups", "list", { { "left_group", "ip" } } },
    } },
    [0xc039] = { "GROUP_POLICY", { { "vif", "u16" }, { "snoops", "bool" }, { "querier", "ip" } } },
    [0xc06e] = { "GROUP_LIMITS", {
        { "vif", "u16" }, { "broadcast_frames_a_second", "u64" }, { "broadcast_bits_a_second", "u64" },
        { "multicast_frames_a_second", "u64" }, { "multicast_bits_a_second", "u64" },
    } },
    [0xc040] = { "PROMISCUOUS", { { "location", "record", location }, { "listens", "bool" } } },
    [0xc041] = { "CLAIMS", { { "vif", "u16" }, { "flow", "list", flow } } },
    [0xc042] = { "FLOWS_GONE", { { "vif", "u16" }, { "flow", "list", flow } } },
    [0xc043] = { "FLOWS_TOLD", { { "vif", "u16" } } },
    [0xc044] = { "LISTENING", { { "vif", "u16" }, { "service_state", "list", listening } } },
    [0xc045] = { "CHECK", {
        { "vif", "u16" }, { "id", "u32" }, { "address", "ip" }, { "port", "u16" }, { "within_ms", "u32" },
        { "check_kind", "choice", { [2] = { { "path", "text" } } } },
    } },
    [0xc046] = { "CHECKED", {
        { "vif", "u16" }, { "id", "u32" }, { "address", "ip" }, { "port", "u16" },
        { "check_result", "choice", { [4] = { { "http_status", "u16" } } } },
    } },
    [0xc04a] = { "CLUSTER_ROLE", { { "has_clusters", "bool" } } },
    [0xc03c] = { "LEG_ADDRESSES", { { "offered_leg", "list", offered_leg } } },
    [0xc03d] = { "ARENA_READY", { { "lan_id", "u16" }, { "arena", "u32" } } },
    [0xc060] = { "INTERFACE", {
        { "lan_id", "u16" }, { "vif", "u16" }, { "mac", "mac" }, { "mtu", "u16" }, { "relay_channel", "u8" },
        { "arp_channel", "u8" }, { "port_security", "u8" }, { "may_listen", "bool" },
        { "has_carrier", "bool" },
        { "interface_name", "text" }, { "lan_name", "text" },
        { "addresses", "list", { { "address", "prefix" } } }, { "gateways", "list", { { "gateway", "ip" } } },
        { "clusters", "list", served_cluster }, { "cluster_addresses", "list", { { "cluster_address", "ip" } } },
    } },
    [0xc061] = { "INTERFACE_REMOVED", { { "vif", "u16" } } },
    [0xc062] = { "CONFIGURATION_END", { { "configuration", "u64" } } },
    [0xc063] = { "SENDER", {
        { "lan_id", "u16" }, { "node", "u16" }, { "vif", "u16" }, { "dhcp_server", "bool" }, { "router", "bool" },
        { "learn", "u16" }, { "frames_a_second", "u64" }, { "bits_a_second", "u64" }, { "sender_addresses", "list", { { "sender_address", "ip" } } },
    } },
    [0xc064] = { "GRANT", {
        { "rvi", "u32" }, { "lan_id", "u16" }, { "peer", "u16" }, { "process", "u64" }, { "channel", "u8" }, { "vif", "u16" },
        { "peer_vif", "u16" }, { "mac", "mac" }, { "epoch", "u32" }, { "pair_key", "key" }, { "peer_key", "key" },
        { "granted_leg", "list", granted_leg },
    } },
    [0xc065] = { "REVOKE", { { "rvi", "u32" }, { "peer", "u16" }, { "revoke_reason", "u8" } } },
    [0xc066] = { "REVOKED", { { "rvi", "u32" } } },
    [0xc067] = { "LEG_CUT", { { "peer", "u16" }, { "leg", "u8" } } },
    [0xc04b] = { "LEG_MISSING", { { "peer", "u16" }, { "process", "u64" }, { "leg", "u8" } } },
    [0xc06a] = { "LEG_INTRODUCED", { { "peer", "u16" }, { "leg", "u8" } } },
    [0xc068] = { "DIRECT_IDLE", { { "rvi", "u32" } } },
    [0xc069] = { "DIRECT_LOST", { { "peer", "u16" }, { "process", "u64" } } },
    [0x806a] = { "BARRIER", {
        { "lan_id", "u16" }, { "node", "u16" }, { "vif", "u16" }, { "peer", "u16" }, { "peer_vif", "u16" }, { "boot_tag", "u16" },
        { "id", "u32" },
    } },
    [0x806b] = { "BARRIER_ECHO", { { "id", "u32" } } },
    [0x806c] = { "RELAY_DRAINED", { { "waiting", "bool" } } },
    [0xc0a0] = { "DIRECT_DONE", {} },
    [0xc06d] = { "FAULT", { { "leg", "u8" }, { "fault_direction", "u8" }, { "fault", "text" } } },
    [0xc070] = { "CAPTURE", {
        { "id", "u32" }, { "point", "u8" }, { "point_number", "u16" }, { "directions", "u8" }, { "snap", "u32" },
        { "window", "u32" }, { "filter", "list", octet },
    } },
    [0xc071] = { "CAPTURE_CREDIT", { { "id", "u32" }, { "octets", "u32" } } },
    [0xc072] = { "CAPTURE_END", { { "id", "u32" }, { "discard", "bool" } } },
    [0xc073] = { "TRACE", {
        { "id", "u32" }, { "trace_way", "u8" }, { "vif", "u16" }, { "peer", "u16" }, { "traced_octets", "list", octet },
    } },
    [0xc074] = { "TRACED", {
        { "id", "u32" }, { "trace_step", "list", { { "trace_what", "text" }, { "trace_rule", "text" } } }, { "trace_end", "u8" },
        { "peer", "u16" }, { "peer_vif", "u16" }, { "traced_octets", "list", octet },
    } },
    [0x006e] = { "REPORT_REQUEST", { { "id", "u32" } } },
    [0x0070] = { "REPORT_DROPS", { { "id", "u32" }, { "dropped_frame", "list", dropped_frame } } },
    [0x006f] = { "REPORT", { { "id", "u32" }, { "last", "bool" }, { "counters", "list", counter } } },
}
local frame_kinds = { [0x8001] = "unicast", [0x8002] = "group", [0x8003] = "relay", [0x8006] = "promiscuous", [0x8010] = "ARP" }
local RELAYED_PACKET, COPIES, REFERENCE = 0x8004, 0x8005, 0x8007
local named_kinds = { [RELAYED_PACKET] = "relayed packet", [COPIES] = "captured copies", [REFERENCE] = "reference" }
-- Least octets of a header, where they are not the 8 of a control message.
local header_lens = { [0x8010] = 80, [0x8006] = 40, [RELAYED_PACKET] = 16, [REFERENCE] = 32 }
for kind in pairs(frame_kinds) do
    header_lens[kind] = header_lens[kind] or 32
end

-- One ProtoField for each name: weft.msg.NAME.
local makers = {
    u8 = ProtoField.uint8, u16 = ProtoField.uint16, u32 = ProtoField.uint32, bool = ProtoField.bool, mac = ProtoField.ether,
    text = ProtoField.string, key = ProtoField.bytes, choice = ProtoField.uint8,
}
local message_fields = {}
local function declare(list)
    for _, part in ipairs(list) do
        local name, kind, inner = part[1], part[2], part[3]
        if kind == "choice" then
            for _, fields in pairs(inner) do
                declare(fields)
            end
        elseif inner then
            declare(inner)
        end
        local base_name, title = "weft.msg." .. name, name:gsub("_", " ")
        if kind == "u64" then
            message_fields[name] = message_fields[name] or ProtoField.uint64(base_name, title, base.HEX)
        elseif makers[kind] then
            message_fields[name] = message_fields[name] or makers[kind](base_name, title)
        elseif kind == "ip" or kind == "prefix" or kind == "leg_address" then
            message_fields[name] = message_fields[name] or ProtoField.string(base_name, title)
        end
    end
end
for _, message in pairs(messages) do
    declare(message[2])
end
declare(reference)
for name, field in pairs(message_fields) do
    f["msg_" .. name] = field
end
tlv.fields = f

-- Reads an address at `at`: its text and its octets; nothing when it is none.
local function ip_at(buffer, at)
    if at >= buffer:len() then
        return nil
    end
    local version = buffer(at, 1):uint()
    if version == 4 and at + 5 <= buffer:len() then
        return tostring(buffer(at + 1, 4):ipv4()), 5
    elseif version == 6 and at + 17 <= buffer:len() then
        return tostring(buffer(at + 1, 16):ipv6()), 17
    end
    return nil
end

local sizes = { u8 = 1, u16 = 2, u32 = 4, u64 = 8, bool = 1, mac = 6, key = 32 }

-- Adds the fields of `list` to the tree; gives where they end, or nothing when the octets run out.
local function add_fields(list, buffer, at, tree)
    for _, part in ipairs(list) do
        local name, kind, inner = part[1], part[2], part[3]
        local field, size, left = message_fields[name], sizes[kind], buffer:len() - at
        if size then
            if left < size then return nil end
            if kind == "mac" or kind == "key" then
                tree:add(field, buffer(at, size))
            else
                tree:add_le(field, buffer(at, size))
            end
            at = at + size
        elseif kind == "text" then
            if left < 1 or left < 1 + buffer(at, 1):uint() then return nil end
            local len = buffer(at, 1):uint()
            tree:add(field, buffer(at, 1 + len), len > 0 and buffer(at + 1, len):string() or "")
            at = at + 1 + len
        elseif kind == "ip" or kind == "prefix" then
            local text, len = ip_at(buffer, at)
            if not text then return nil end
            if kind == "prefix" then
                if left < len + 1 then return nil end
                text, len = text .. "/" .. buffer(at + len, 1):uint(), len + 1
            end
            tree:add(field, buffer(at, len), text)
            at = at + len
        elseif kind == "leg_address" then
            if left < 1 then return nil end
            local leg_kind, text, len = buffer(at, 1):uint(), nil, nil
            if leg_kind == 1 then
                text, len = ip_at(buffer, at + 1)
                if not text or left < 1 + len + 2 then return nil end
                text, len = "udp " .. text .. " port " .. buffer(at + 1 + len, 2):le_uint(), 1 + len + 2
            elseif leg_kind == 2 and left >= 11 then
                text = "ether " .. tostring(buffer(at + 1, 6):ether()) .. " port " .. buffer(at + 7, 4):le_uint()
                len = 11
            else
                return nil
            end
            tree:add(field, buffer(at, len), text)
            at = at + len
        elseif kind == "choice" then
            -- An octet says which fields follow.
            if left < 1 then return nil end
            tree:add(field, buffer(at, 1))
            at = add_fields(inner[buffer(at, 1):uint()] or {}, buffer, at + 1, tree)
            if not at then return nil end
        elseif kind == "record" then
            local ends = add_fields(inner, buffer, at, tree:add(f.location, buffer(at)))
            if not ends then return nil end
            at = ends
        elseif kind == "list" then
            if left < 2 then return nil end
            local count = buffer(at, 2):le_uint()
            local branch = tree:add(f.item, buffer(at, 2)):set_text(name:gsub("_", " ") .. ": " .. count)
            at = at + 2
            for _ = 1, count do
                if at > buffer:len() then return nil end
                at = add_fields(inner, buffer, at, branch)
                if not at then return nil end
            end
        end
    end
    return at
end

-- ------------------------------------------------------------------ messages

local ethernet = Dissector.get("eth_withoutfcs")

local function dissect_frame(buffer, pinfo, tree, root, kind, header_len)
    tree:add_le(f.resent, buffer(2, 1))
    tree:add_le(f.unbound, buffer(2, 1))
    if kind == 0x8010 then
        tree:add_le(f.arp_copy, buffer(2, 1))
        tree:add_le(f.arp_local, buffer(2, 1))
    end
    if kind == 0x8003 then
        tree:add_le(f.owner_only, buffer(2, 1))
        tree:add_le(f.pass_on, buffer(2, 1))
        tree:add_le(f.hop, buffer(2, 1))
    end
    tree:add_le(f.lan, buffer(8, 2))
    tree:add_le(f.origin, buffer(10, 2))
    tree:add_le(f.origin_vif, buffer(12, 2))
    tree:add_le(f.destination_vif, buffer(14, 2))
    tree:add(f.vnet_flags, buffer(16, 1))
    tree:add(f.vnet_needs_sum, buffer(16, 1))
    tree:add(f.vnet_sum_valid, buffer(16, 1))
    tree:add(f.vnet_gso, buffer(17, 1))
    tree:add_le(f.vnet_hdr_len, buffer(18, 2))
    tree:add_le(f.vnet_gso_size, buffer(20, 2))
    tree:add_le(f.vnet_sum_start, buffer(22, 2))
    tree:add_le(f.vnet_sum_offset, buffer(24, 2))
    tree:add_le(f.boot, buffer(26, 2))
    tree:add_le(f.bseq, buffer(28, 4))
    if kind == 0x8006 then
        tree:add_le(f.listener, buffer(32, 2))
    end
    if kind == 0x8010 then
        add_fields(location, buffer, 32, tree:add(f.location, buffer(32, 24)):set_text("Source location"))
        add_fields(location, buffer, 56, tree:add(f.location, buffer(56, 24)):set_text("Target location"))
    end
    if buffer:len() > header_len then
        ethernet:call(buffer(header_len):tvb(), pinfo, root)
    end
end

function tlv.dissector(buffer, pinfo, root)
    if buffer:len() < 8 then
        return 0
    end
    pinfo.cols.protocol = "Weft"
    local kind, header_len = buffer(0, 2):le_uint(), buffer(3, 1):uint() * 8
    local tree = root:add(tlv, buffer(0, math.min(math.max(header_len, 8), buffer:len())))
    tree:add_le(f.kind, buffer(0, 2))
    tree:add_le(f.action, buffer(0, 2))
    tree:add(f.flags, buffer(2, 1))
    tree:add(f.header_len, buffer(3, 1))
    tree:add_le(f.value_len, buffer(4, 4))
    local message = messages[kind]
    local name = message and message[1] or frame_kinds[kind] or named_kinds[kind]
    if not name then
        pinfo.cols.info = string.format("unknown type 0x%04x", kind)
        tree:add_proto_expert_info(tlv_unknown)
        return buffer:len()
    end
    tree:add(f.name, buffer(0, 2), name):set_generated()
    tree:append_text(", " .. name)
    pinfo.cols.info = name
    -- A snap length may have cut the message: then only what its lengths say can be looked at.
    local whole = header_len + buffer(4, 4):le_uint()
    local is_cut = pinfo.len > pinfo.caplen
    local least = header_lens[kind] or 8
    if header_len < least or (whole ~= buffer:len() and not is_cut) then
        tree:add_proto_expert_info(tlv_bad)
        return buffer:len()
    end
    if buffer:len() < least then
        return buffer:len()
    end
    if frame_kinds[kind] then
        dissect_frame(buffer, pinfo, tree, root, kind, header_len)
    elseif kind == RELAYED_PACKET then
        tree:add_le(f.relayed_node, buffer(8, 2))
        tree:add_le(f.relayed_epoch, buffer(12, 4))
        if buffer:len() > header_len then
            packet.dissector(buffer(header_len):tvb(), pinfo, root)
        end
    elseif kind == REFERENCE then
        add_fields(reference, buffer, 8, tree)
    elseif message then
        local ends = add_fields(message[2], buffer, header_len, tree)
        if ends ~= buffer:len() and not is_cut then
            tree:add_proto_expert_info(tlv_bad)
        end
        tree:set_len(buffer:len())
    end
    return buffer:len()
end

-- ------------------------------------------------------------------ packets between hosts

local kind_names = {
    [1] = "DATA", [3] = "PROBE", [4] = "CONNECT", [5] = "ACCEPT", [6] = "CONFIRM", [7] = "RESET", [8] = "CLOSE", [9] = "COOKIE",
}
local record_kinds = { [0] = "data", [1] = "channel control" }
local pf = {
    version = ProtoField.uint8("weft.packet.version", "Version", base.DEC, nil, 0xf0),
    words = ProtoField.uint8("weft.packet.header_words", "Header length in 4 octets", base.DEC, nil, 0x0f),
    kind = ProtoField.uint8("weft.packet.kind", "Kind", base.DEC, kind_names),
    leg = ProtoField.uint8("weft.packet.leg", "Leg"),
    ack_now = ProtoField.bool("weft.packet.ack_now", "Ack at once", 8, nil, 0x01),
    has_ack = ProtoField.bool("weft.packet.has_ack", "Has acks", 8, nil, 0x02),
    association = ProtoField.uint32("weft.packet.association", "Association, as its receiver numbers it", base.HEX),
    session = ProtoField.uint64("weft.packet.session", "Session", base.HEX),
    number = ProtoField.uint64("weft.packet.number", "Number"),
    clock = ProtoField.uint32("weft.packet.clock", "Sender's clock in us"),
    payload_len = ProtoField.uint16("weft.packet.payload_len", "Payload length"),
    fabric_key = ProtoField.uint16("weft.packet.fabric_key", "Key of the fabric", base.HEX),
    sealed = ProtoField.bytes("weft.packet.sealed", "Encrypted contents"),
    handshake = ProtoField.bytes("weft.packet.handshake", "Handshake"),
    tag = ProtoField.bytes("weft.packet.tag", "Tag"),
    ack = ProtoField.none("weft.packet.ack", "Acks"),
    ack_leg = ProtoField.uint8("weft.packet.ack.leg", "Leg"),
    ack_largest = ProtoField.uint64("weft.packet.ack.largest", "Largest number"),
    record = ProtoField.none("weft.packet.record", "Record"),
    record_number = ProtoField.uint32("weft.packet.record.number", "Message number"),
    record_kind = ProtoField.uint16("weft.packet.record.kind", "Kind", base.DEC, record_kinds, 0x0c00),
    record_lane = ProtoField.uint16("weft.packet.record.lane", "Lane", base.DEC, nil, 0x03ff),
    record_resent = ProtoField.bool("weft.packet.record.resent", "Sent before", 16, nil, 0x1000),
    record_channel = ProtoField.uint8("weft.packet.record.channel", "Channel"),
    record_offset = ProtoField.uint32("weft.packet.record.offset", "Offset in the message"),
    record_total = ProtoField.uint32("weft.packet.record.total", "Octets of the message"),
    record_body = ProtoField.bytes("weft.packet.record.body", "Body"),
}
packet.fields = pf

-- Where the ack section of a readable payload ends, or nothing when there is none.
local function skip_acks(buffer, at)
    if at + 8 > buffer:len() then return nil end
    local blocks = buffer(at, 1):uint()
    if blocks < 1 or blocks > 6 or buffer(at + 1, 3):uint() ~= 0 or buffer(at + 4, 4):uint() ~= 0 then return nil end
    at = at + 8
    for _ = 1, blocks do
        if at + 24 > buffer:len() then return nil end
        local ranges = buffer(at + 1, 1):uint()
        if ranges < 1 or ranges > 8 or buffer(at + 20, 4):uint() ~= 0 then return nil end
        at = at + 24 + math.ceil(ranges / 2) * 8
    end
    return at <= buffer:len() and at or nil
end

-- The records of a readable payload: where each begins, and the octets of its body; nothing when they do not add up.
local function records(buffer, at)
    local found = {}
    while at < buffer:len() do
        if at + 16 > buffer:len() then return nil end
        local len, word = buffer(at + 8, 2):le_uint(), buffer(at + 4, 2):le_uint()
        if bit.band(word, 0xc000) ~= 0 or bit.band(word, 0x0800) ~= 0 or at + 16 + len > buffer:len() then return nil end
        found[#found + 1] = { at, len }
        at = at + 16 + math.ceil(len / 8) * 8
    end
    return at == buffer:len() and found or nil
end

local function dissect_records(buffer, pinfo, tree, root, has_ack)
    local at = 0
    if has_ack then
        at = skip_acks(buffer, 0)
    end
    local found = at and records(buffer, at)
    if not found then
        return false
    end
    if has_ack then
        local acks, block = tree:add(pf.ack, buffer(0, at)), 8
        for _ = 1, buffer(0, 1):uint() do
            acks:add(pf.ack_leg, buffer(block, 1))
            acks:add_le(pf.ack_largest, buffer(block + 8, 8))
            block = block + 24 + math.ceil(buffer(block + 1, 1):uint() / 2) * 8
        end
    end
    for _, place in ipairs(found) do
        local start, len = place[1], place[2]
        local word = buffer(start + 8, 8):le_uint64()
        local offset, total = word:rshift(16):band(0xfffff):tonumber(), word:rshift(36):band(0xfffff):tonumber()
        local branch = tree:add(pf.record, buffer(start, 16 + len))
        branch:add_le(pf.record_number, buffer(start, 4))
        branch:add_le(pf.record_lane, buffer(start + 4, 2))
        branch:add_le(pf.record_kind, buffer(start + 4, 2))
        branch:add_le(pf.record_resent, buffer(start + 4, 2))
        branch:add(pf.record_channel, buffer(start + 15, 1))
        branch:add(pf.record_offset, buffer(start + 10, 3), offset)
        branch:add(pf.record_total, buffer(start + 12, 3), total)
        if len > 0 then
            branch:add(pf.record_body, buffer(start + 16, len))
            local is_data = bit.band(buffer(start + 4, 2):le_uint(), 0x0c00) == 0
            if is_data and offset == 0 and total == len then
                tlv.dissector(buffer(start + 16, len):tvb(), pinfo, root)
            end
        end
    end
    return true
end

-- Octets of the packet that begins at `at`; nothing when there is none.
local function packet_len(buffer, at)
    local left = buffer:len() - at
    if left < 48 or buffer(at, 1):uint() ~= 0x18 then return nil end
    local leg, len = buffer(at + 2, 1):uint(), 48 + buffer(at + 24, 2):le_uint()
    local is_one = kind_names[buffer(at + 1, 1):uint()] and (leg < 4 or leg == 14 or leg == 15) and buffer(at + 3, 1):uint() < 4
    return is_one and len <= left and len or nil
end

function packet.dissector(buffer, pinfo, root)
    if packet_len(buffer, 0) ~= buffer:len() then
        return 0
    end
    pinfo.cols.protocol = "Weft"
    local kind, payload_len = buffer(1, 1):uint(), buffer(24, 2):le_uint()
    local number = buffer(16, 4):le_uint() + buffer(28, 4):le_uint() * 4294967296
    local title = string.format("%s on leg %d, number %.0f", kind_names[kind], buffer(2, 1):uint(), number)
    local tree = root:add(packet, buffer()):append_text(", " .. title)
    pinfo.cols.info = title
    tree:add(pf.version, buffer(0, 1))
    tree:add(pf.words, buffer(0, 1))
    tree:add(pf.kind, buffer(1, 1))
    tree:add(pf.leg, buffer(2, 1))
    tree:add(pf.ack_now, buffer(3, 1))
    tree:add(pf.has_ack, buffer(3, 1))
    tree:add_le(pf.association, buffer(4, 4))
    tree:add_le(pf.session, buffer(8, 8))
    tree:add(pf.number, buffer(16, 16), UInt64(buffer(16, 4):le_uint(), buffer(28, 4):le_uint()))
    tree:add_le(pf.clock, buffer(20, 4))
    tree:add_le(pf.payload_len, buffer(24, 2))
    tree:add_le(pf.fabric_key, buffer(26, 2))
    if payload_len > 0 then
        local payload = buffer(32, payload_len)
        local is_data = kind == 1 or kind == 3
        if not is_data then
            tree:add(pf.handshake, payload)
        elseif not dissect_records(payload:tvb(), pinfo, tree, root, bit.band(buffer(3, 1):uint(), 2) ~= 0) then
            tree:add(pf.sealed, payload)
            pinfo.cols.info:append(", encrypted")
        end
    end
    tree:add(pf.tag, buffer(32 + payload_len, 16))
    return buffer:len()
end

-- UDP legs have no port of their own: what looks like a packet in all its fixed octets is one. Runs of segments that were
-- captured before they were cut are several.
packet:register_heuristic("udp", function(buffer, pinfo, root)
    local at, places = 0, {}
    while at < buffer:len() do
        local len = packet_len(buffer, at)
        if not len then
            return false
        end
        places[#places + 1] = { at, len }
        at = at + len
    end
    for _, place in ipairs(places) do
        packet.dissector(buffer(place[1], place[2]):tvb(), pinfo, root)
    end
    return #places > 0
end)

-- ------------------------------------------------------------------ Ethernet frames of packets

local ef = {
    protocol = ProtoField.uint8("weft.ether.protocol", "Protocol", base.HEX),
    version = ProtoField.uint8("weft.ether.version", "Version"),
    len = ProtoField.uint16("weft.ether.len", "Octets of the packet"),
    destination = ProtoField.uint32("weft.ether.destination_port", "Destination port"),
    source = ProtoField.uint32("weft.ether.source_port", "Source port"),
}
ether.fields = ef

function ether.dissector(buffer, pinfo, root)
    if buffer:len() < 12 or buffer(0, 2):uint() ~= 0x5701 then
        return 0
    end
    local tree, len = root:add(ether, buffer(0, 12)), buffer(2, 2):uint()
    pinfo.cols.protocol = "Weft"
    tree:add(ef.protocol, buffer(0, 1))
    tree:add(ef.version, buffer(1, 1))
    tree:add(ef.len, buffer(2, 2))
    tree:add(ef.destination, buffer(4, 4))
    tree:add(ef.source, buffer(8, 4))
    if len > 0 and buffer:len() >= 12 + len then
        packet.dissector(buffer(12, len):tvb(), pinfo, root)
    end
    return buffer:len()
end
DissectorTable.get("ethertype"):add(ETHERTYPE, ether)

-- ------------------------------------------------------------------ what switchctl captures of an RVI

function tap.dissector(buffer, pinfo, root)
    if buffer:len() < 8 or buffer(0, 1):uint() ~= 1 then
        return 0
    end
    local tree = root:add(tap, buffer(0, 8))
    tree:add(tf.version, buffer(0, 1))
    tree:add(tf.channel, buffer(1, 1))
    tree:add(tf.direction, buffer(2, 1))
    tree:add(tf.peer_kind, buffer(3, 1))
    tree:add_le(tf.peer, buffer(4, 2))
    tree:add_le(tf.node, buffer(6, 2))
    local node = "node " .. buffer(6, 2):le_uint()
    local peer = buffer(3, 1):uint() == 1 and "node " .. buffer(4, 2):le_uint() or "control node"
    local is_out = buffer(2, 1):uint() == 2
    pinfo.cols.src, pinfo.cols.dst = is_out and node or peer, is_out and peer or node
    tlv.dissector(buffer(8):tvb(), pinfo, root)
    return buffer:len()
end
DissectorTable.get("wtap_encap"):add(wtap.USER0, tap)
