// Calls of the server. Errors are ApiErrors; calls that are given up reject with an AbortError.

export class ApiError extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.field = error.field ?? "";
    this.line = error.line ?? 0;
    this.column = error.column ?? 0;
  }
}

const TOKEN = "iterand-token";

export function setToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

export async function call(path, body, signal) {
  const headers = {};
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.authorization = `Bearer ${token}`;
  const options = { headers, signal, cache: "no-store", credentials: "omit" };
  if (body !== undefined) {
    options.method = "POST";
    options.body = JSON.stringify(body);
    headers["content-type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(`/api/${path}`, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { message: "The server does not answer." });
  }
  let answer;
  try {
    answer = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(response.status, { message: "The server's answer cannot be read." });
  }
  if (!response.ok) {
    if (response.status === 401) document.dispatchEvent(new Event("token-needed"));
    throw new ApiError(response.status, answer.error);
  }
  return answer;
}
