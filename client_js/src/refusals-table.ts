// Written by scripts/refusals (at the root of the repository) from the server's catalogue; do not edit.

/** How long to wait where the answer does not say it. */
export const RETRY_AFTER_S = 5;

/** Door, what ends, whether to come back, HTTP status and code, close code (0: none), and the messages by name. */
export const REFUSALS = [
  [
    "HTTP", "request", "no", 400, 3, 0,
    {
      bad_request_line: "Bad request: malformed request line",
      bad_header: "Bad request: malformed header",
      repeated_header: "Bad request: header {name} is given more than once",
      no_host: "Bad request: no Host header",
      bad_framing: "Bad request: unsupported or ambiguous body framing",
      bad_length: "Bad request: malformed Content-Length",
      bare_line_end: "Bad request: lines must end in CR LF",
      bad_query: "The query string cannot be read",
      repeated_parameter: "Parameter {name} is given more than once",
      bad_parameter: "Parameter {name} must be {allowed}",
      upgrade_elsewhere: "Upgrade: websocket with transport={transport}",
      not_an_upgrade: "Not a WebSocket handshake: Upgrade: websocket is missing",
      upgrade_method: "A WebSocket handshake is a GET of HTTP/1.1",
      upgrade_body: "A WebSocket handshake has no body",
      websocket_key: "Sec-WebSocket-Key must be 16 bytes in base64",
    },
  ],
  [
    "HTTP", "request", "no", 414, 3, 0,
    {
      target_too_long: "The request target is over the limit of {limit} bytes",
    },
  ],
  [
    "HTTP", "request", "no", 431, 3, 0,
    {
      head_too_large: "The request header is over the limit of {limit} bytes",
    },
  ],
  [
    "HTTP", "request", "anew", 408, 3, 0,
    {
      request_timeout: "The request took too long to arrive",
    },
  ],
  [
    "HTTP", "request", "no", 404, 3, 0,
    {
      not_found: "Not found",
    },
  ],
  [
    "HTTP", "session", "anew", 413, 3, 0,
    {
      body_too_large: "The body is over the limit of {limit} bytes",
    },
  ],
  [
    "HTTP", "session", "anew", 400, 3, 0,
    {
      bad_body: "The body cannot be read: {fault}",
      overlapping_get: "Another GET of this session is waiting",
      overlapping_post: "Another POST of this session is being received",
      ack_missing: "No 'ack' tells where this response has to go on",
      ack_late: "The first request of this session did not say 'ack'",
      ack_wrong: "'ack' is not between what was acknowledged and what was sent",
    },
  ],
  [
    "HTTP", "session", "anew", 415, 3, 0,
    {
      unknown_coding: "Content-Encoding must be one of {allowed}",
    },
  ],
  [
    "HTTP", "request", "no", 400, 0, 0,
    {
      unknown_transport: "Transport unknown; allowed are {allowed}",
    },
  ],
  [
    "HTTP", "request", "no", 400, 5, 0,
    {
      unsupported_version: "Unsupported protocol version; EIO must be 4",
    },
  ],
  [
    "HTTP", "request", "no", 400, 2, 0,
    {
      bad_method: "Bad handshake method; it must be GET",
    },
  ],
  [
    "HTTP", "request", "no", 403, 4, 0,
    {
      origin_refused: "{origin} is not an accepted origin; expected {expected} ({hint})",
    },
  ],
  [
    "HTTP", "request", "anew", 400, 1, 0,
    {
      unknown_session: "Session ID unknown",
    },
  ],
  [
    "HTTP", "request", "anew", 400, 3, 0,
    {
      wrong_transport: "The session is on transport {transport}",
    },
  ],
  [
    "HTTP", "request", "no", 401, 4, 0,
    {
      handshake_refused: "{text}",
    },
  ],
  [
    "HTTP", "request", "anew", 401, 4, 0,
    {
      left_early: "The session was closed",
    },
  ],
  [
    "HTTP", "request", "later", 503, 4, 0,
    {
      draining: "The server is shutting down; connect to another",
      too_many_connections: "The server is full: it holds {limit} connections; come back later",
    },
  ],
  [
    "HTTP", "request", "later", 429, 4, 0,
    {
      too_many_from_address: "Too many connections from {address}: {limit} are allowed",
      too_many_handshakes: "Too many handshakes from {address}: {rate} a second are allowed",
    },
  ],
  [
    "HTTP", "request", "no", 426, 3, 0,
    {
      websocket_version: "Sec-WebSocket-Version must be 13",
    },
  ],
  [
    "WebSocket", "session", "anew", 0, 0, 1002,
    {
      reserved_bit: "reserved bit set",
      not_masked: "client frame is not masked",
      unknown_opcode: "unknown opcode",
      bad_control_frame: "control frame is fragmented or too long",
      stray_continuation: "continuation of nothing",
      interleaved_message: "new message inside a fragmented one",
      length_top_bit: "frame length has its top bit set",
      length_not_shortest: "frame length is not in its shortest form",
      stray_compression: "only the first frame of a message is marked as compressed",
      bad_close: "invalid close frame",
    },
  ],
  [
    "WebSocket", "session", "anew", 0, 0, 1009,
    {
      message_too_big: "message too big",
      inflated_too_big: "compressed message is too big once inflated",
    },
  ],
  [
    "WebSocket", "session", "anew", 0, 0, 1007,
    {
      text_not_utf8: "text message is not UTF-8",
      bad_compression: "compressed message: {fault}",
      close_not_utf8: "close reason is not UTF-8",
    },
  ],
  [
    "Engine.IO", "session", "anew", 400, 3, 1002,
    {
      empty_packet: "empty packet",
      unknown_packet_type: "unknown packet type",
      bad_base64: "binary packet is not base64",
      payload_not_utf8: "payload is not UTF-8",
      unexpected_packet: "unexpected {type} packet",
    },
  ],
  [
    "Engine.IO", "session", "anew", 0, 0, 1001,
    {
      ping_timeout: "ping timeout",
    },
  ],
  [
    "Engine.IO", "session", "anew", 0, 0, 1008,
    {
      connect_timeout: "connect timeout",
      too_many_events: "too many events waiting",
    },
  ],
  [
    "Engine.IO", "session", "later", 0, 0, 1012,
    {
      shutdown: "server shutting down",
    },
  ],
  [
    "Engine.IO", "session", "anew", 0, 0, 1011,
    {
      handler_failed: "handler failed",
    },
  ],
  [
    "Socket.IO", "session", "anew", 400, 3, 1002,
    {
      unknown_socket_packet: "unknown packet type",
      stray_binary: "binary message without a packet that announces it",
      no_attachment_count: "binary packet without a number of attachments",
      too_many_attachments: "more than {limit} attachments",
      attachments_too_big: "the attachments of a packet are over {limit} bytes together",
      namespace_too_long: "namespace is too long",
      bad_namespace: "malformed namespace",
      bad_json: "payload is not JSON",
      bad_ack_id: "malformed ack id",
      ack_id_too_long: "ack id is too long",
      text_for_attachment: "text where an attachment is due",
      bad_placeholder: "a placeholder without its attachment",
      spare_attachment: "an attachment without its placeholder",
      too_deep: "payload is nested more than {limit} levels deep",
      no_event_name: "event without its name",
      bad_event_name: "event name must be text or an integer",
      reserved_event: "event name {name} is reserved",
      bad_ack: "malformed ack",
      bad_auth: "auth payload must be an object",
      stray_ack_id: "only events and acks have an ack id",
      disconnect_payload: "disconnect with a payload",
      client_connect_error: "only servers send CONNECT_ERROR",
      not_joined: "packet for {namespace}, which was not joined",
      not_msgpack: "packet is not MessagePack",
      text_for_msgpack: "text message; this server speaks msgpack",
      custom_packet: "malformed packet",
    },
  ],
  [
    "Socket.IO", "namespace", "no", 0, 0, 0,
    {
      invalid_namespace: "Invalid namespace",
      already_joined: "Already connected to this namespace",
      too_many_namespaces: "Too many namespaces: {limit} are allowed",
      join_refused: "{text}",
    },
  ],
  [
    "Socket.IO", "namespace", "later", 0, 0, 0,
    {
      join_failed: "Internal server error",
    },
  ],
] as const;
