// The server: questions, answers, and what went wrong in one sentence.

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer; is studio.py still running?");
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => null);
  throw new Error(said?.error || `The server says ${answer.status}.`);
}

export const about = async () => (await ask("api/about")).json();
export const shot = async (voice, velocity) => (await ask(`api/sounds/${voice}/${velocity}.wav`)).arrayBuffer();

export async function hear(bytes, name, track = "", as = "rhythm") {
  const query = new URLSearchParams({ name, track, as });
  return (await ask(`api/hear?${query}`, { method: "POST", body: bytes })).json();
}

export async function play(message) {
  return (await ask("api/play", { method: "POST", body: JSON.stringify(message) })).json();
}

export async function save(kind, message) {
  return (await ask(`api/save/${kind}`, { method: "POST", body: JSON.stringify(message) })).blob();
}

// A jam's socket: `ask` sends a message and promises its answer; they come back in order.
export function jam() {
  const socket = new WebSocket(`ws://${location.host}/api/jam`);
  const waiting = [];
  const open = new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = () => reject(new Error("The server does not answer; is studio.py still running?"));
  });
  socket.onmessage = ({ data }) => {
    const answer = JSON.parse(data), { resolve, reject } = waiting.shift();
    answer.type === "error" ? reject(new Error(answer.error)) : resolve(answer);
  };
  socket.onclose = () => waiting.splice(0).forEach(({ reject }) => reject(new Error("The jam's line was cut.")));
  return {
    async ask(message) {
      await open;
      return new Promise((resolve, reject) => {
        waiting.push({ resolve, reject });
        socket.send(JSON.stringify(message));
      });
    },
    isOpen: () => socket.readyState <= WebSocket.OPEN,
    close: () => socket.close(),
  };
}
