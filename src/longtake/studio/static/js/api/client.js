// Requests to the server. Every failure becomes an ApiError in the server's words; no failure is silent.

export class ApiError extends Error {
  /** @param {number} status of HTTP; 0: the server did not answer. */
  constructor(status, code, message, facts = {}) {
    super(message);
    Object.assign(this, { status, code, facts });
  }
}

/**
 * @param {(path: string, init: RequestInit) => Promise<Response>} send
 * @param {(alive: boolean) => void} onAlive called with whether the server answered
 */
export function createClient(send = (path, init) => fetch(path, init), onAlive = () => {}) {
  async function request(method, path, { body, headers = {}, signal } = {}) {
    const form = body instanceof FormData;
    const init = { method, signal, headers: { ...headers }, credentials: "same-origin" };
    if (body !== undefined) {
      init.body = form ? body : JSON.stringify(body);
      if (!form) init.headers["content-type"] = "application/json";
    }
    let answer;
    try {
      answer = await send(path, init);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      onAlive(false);
      throw new ApiError(0, "unreachable", "The server does not answer.");
    }
    onAlive(true);
    if (answer.ok) return answer;
    const facts = (await answer.json().catch(() => ({}))).error ?? {};
    const { type, code, message, ...rest } = facts;
    throw new ApiError(answer.status, code ?? type ?? "error", message ?? `${answer.status} ${answer.statusText}`, rest);
  }

  const json = async (method, path, options) => {
    const answer = await request(method, path, options);
    return answer.status === 204 ? null : answer.json();
  };
  return {
    request,
    get: (path, options) => json("GET", path, options),
    post: (path, body = {}, options = {}) => json("POST", path, { ...options, body }),
    patch: (path, body, options = {}) => json("PATCH", path, { ...options, body }),
    delete: (path, options) => json("DELETE", path, options),
  };
}
