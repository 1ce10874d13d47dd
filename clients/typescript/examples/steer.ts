/**
 * Streams an answer, raises its temperature in the middle, and rates it:
 * `npm run example -- HOST:PORT`. A key is taken from THERMESH_API_KEY.
 */
import { randomUUID } from "node:crypto";
import { promisify } from "node:util";
import { credentials, Metadata } from "@grpc/grpc-js";
import { chat, common, feedback } from "../src/index.js";

const target = process.argv[2] ?? "127.0.0.1:50050";
const metadata = new Metadata();
if (process.env.THERMESH_API_KEY) {
  metadata.set("authorization", `Bearer ${process.env.THERMESH_API_KEY}`);
}

/** The words that begin an answer. */
function start(): chat.ConverseRequest {
  const value = chat.ConverseStart.create({
    messages: [{ role: common.Role.ROLE_USER, content: "Write a story about the sea." }],
    constraints: { temperature: 0.3, maxTokens: 60 },
  });
  return { message: { $case: "start", value } };
}

/** A change of temperature; ids of updates must grow. */
function warmer(updateId: bigint, temperature: number): chat.ConverseRequest {
  const value = common.ParameterUpdate.create({
    updateId,
    program: { kind: { $case: "fixed", value: { temperature } } },
  });
  return { message: { $case: "update", value } };
}

/** Reads one answer to its end; returns the decision that feedback is about. */
async function ask(service: chat.ChatServiceClient): Promise<string> {
  const call = service.converse(metadata);
  let decision = "";
  let isSteered = false;
  call.write(start());
  for await (const { message } of call as AsyncIterable<chat.ConverseResponse>) {
    switch (message?.$case) {
      case "plan":
        decision = message.value.decisionId;
        break;
      case "tokens":
        for (const token of message.value.tokens) {
          const temperature = token.temperature.toFixed(2);
          console.log(`${token.index}  T ${temperature}  ${JSON.stringify(token.text)}`);
        }
        if (!isSteered) {
          isSteered = true;
          call.write(warmer(1n, 1.2));
        }
        break;
      case "applied":
        if (message.value.source === common.UpdateSource.UPDATE_SOURCE_CLIENT) {
          console.log(`update ${message.value.updateId} holds from ${message.value.tokenIndex} on`);
        }
        break;
      case "rejected":
        console.log(`update ${message.value.updateId}: ${message.value.message}`);
        break;
      case "end":
        call.end();
        break;
    }
  }
  return decision;
}

/** Says that an answer was good; sent again with the same id, it counts once. */
async function rate(service: feedback.FeedbackServiceClient, decisionId: string): Promise<string> {
  const submit = promisify<
    feedback.SubmitFeedbackRequest,
    Metadata,
    feedback.SubmitFeedbackResponse
  >(service.submitFeedback.bind(service));
  const request = feedback.SubmitFeedbackRequest.create({
    feedbackId: `fb-${randomUUID()}`,
    decisionId,
    score: 1,
    signal: feedback.FeedbackSignal.FEEDBACK_SIGNAL_EXPLICIT,
  });
  const { state } = await submit(request, metadata);
  return feedback.FeedbackState[state] ?? "unknown";
}

const channel = credentials.createInsecure();
const chats = new chat.ChatServiceClient(target, channel);
const ratings = new feedback.FeedbackServiceClient(target, channel);
try {
  const decision = await ask(chats);
  if (decision) {
    console.log(`feedback: ${await rate(ratings, decision)}`);
  }
} finally {
  chats.close();
  ratings.close();
}
