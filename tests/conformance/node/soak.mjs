// A bystander of tests/soak with a real client: numbers answered in order, ticks pushed in order, until standard
// input ends, a few of each at least. Prints {"answersS": [...], "ticks": n, "problem": null | text}.
//   node node/soak.mjs URL CLIENT
import { chooseClient } from "./clients.mjs";
import { printAndExit } from "./output.mjs";

const PAUSE_MS = 20;
const [url, name] = process.argv.slice(2);
const report = { answersS: [], ticks: 0, problem: null };
let isLeaving = false;
let lastTick = null;

const { open } = await chooseClient(url, name);
const socket = open();

function end(problem) {
  if (problem !== null) report.problem = problem;
  isLeaving = true;
  socket.disconnect();
  printAndExit(report);
}

process.stdin.on("end", () => (isLeaving = true)).resume();
socket.on("connect_error", (error) => end(`connect_error: ${error.message}`));
socket.on("disconnect", (reason) => isLeaving || end(`disconnected: ${reason}`));
socket.on("tick", (number) => {
  if (lastTick !== null && number !== lastTick + 1) end(`tick ${number} behind ${lastTick}`);
  lastTick = number;
  report.ticks += 1;
});
socket.on("connect", async () => {
  try {
    await socket.timeout(10_000).emitWithAck("watch");
    for (let number = 1; !isLeaving || number < 4 || report.ticks < 2; number += 1) {
      const began = performance.now();
      const answer = await socket.timeout(10_000).emitWithAck("number", number);
      // python-socketio's rule: a tuple of one is one argument of the ack.
      if (answer !== number) return end(`${number} was answered with ${JSON.stringify(answer)}`);
      report.answersS.push((performance.now() - began) / 1000);
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
    end(null);
  } catch (error) {
    end(String(error));
  }
});
