/**
 * The contract `thermesh.v1` for Node: what a client says and hears, as
 * protos/thermesh/v1 documents it.
 *
 * A message's kind is `message.$case`; 64-bit integers are bigint, since seeds
 * use all their bits. Make messages with `create`, which fills in what is left
 * out; a temperature that is left out is decided by the mesh.
 */
export * as chat from "./gen/thermesh/v1/chat.js";
export * as common from "./gen/thermesh/v1/common.js";
export * as controller from "./gen/thermesh/v1/controller.js";
export * as feedback from "./gen/thermesh/v1/feedback.js";
