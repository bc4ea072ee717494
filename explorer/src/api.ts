// Requests to the server. Object ids are text: they do not fit a number of JavaScript.

export interface Meta {
  run: string;
  version: string;
  digest: string;
  galaxies: number;
  searched: number;
  bands: string[];
  size: number;
  sheet_columns: number;
  has_scores: boolean;
  has_maps: boolean;
  has_sky_map: boolean;
  map_colours: string[];
  labels: string[];
  positives: string[];
  negative: string;
  unsure: string;
  who: string;
  debris_weight: number;
}

export interface Galaxy {
  id: string;
  ra: number;
  dec: number;
  label: string;
  marks: Record<string, string>;
  score?: number;
  percentile?: number;
  similarity?: number;
  probability?: number | null;
  strategy?: string;
  rank?: number;
}

export interface Described extends Galaxy {
  columns: Record<string, unknown>;
  links: Record<string, string>;
  has_vector: boolean;
}

export interface Estimate {
  value: number;
  low: number;
  high: number;
}

export interface Progress {
  version: number;
  counts: Record<string, number>;
  judged: number;
  positives: number;
  audited: number;
  prevalence: Estimate | null;
  completeness: Estimate | null;
  calibration: [number, number, number][];
}

export interface Mark {
  uuid: string;
  object_id: string;
  label: string;
  strategy?: string;
  rank?: number;
  probability?: number | null;
  milliseconds?: number;
}

/** The server is not there, or was started again with another token; the page goes on when it answers. */
export class Outage extends Error {}

const NO_ANSWER = "the server does not answer: see whether `tidalkin explore` still runs";
const UNAUTHORIZED = 401;

async function answerOf<T>(response: Response): Promise<T> {
  const isJson = response.headers.get("content-type")?.startsWith("application/json");
  if (response.ok && isJson) return response.json();
  const content = isJson ? (await response.json()).error : await response.text();
  const Fault = response.status === UNAUTHORIZED ? Outage : Error;
  throw new Fault(content || `the server answered ${response.status}`);
}

async function responseTo(path: string, options?: RequestInit): Promise<Response> {
  try {
    return await fetch(path, options);
  } catch {
    throw new Outage(NO_ANSWER);
  }
}

async function request<T>(path: string, options?: RequestInit): Promise<T> {
  return answerOf(await responseTo(path, options));
}

export async function getBytes(path: string): Promise<ArrayBuffer> {
  const response = await responseTo(path);
  return response.ok ? response.arrayBuffer() : answerOf(response);
}

/** Ask again for a picture that did not load, and return why. */
export async function faultOf(path: string): Promise<Error> {
  try {
    await getBytes(path);
    return new Error("a picture could not be shown: reload the page");
  } catch (error) {
    return error as Error;
  }
}

export const get = <T>(path: string, signal?: AbortSignal) => request<T>(path, { signal });

export const post = <T>(path: string, body?: BodyInit) =>
  request<T>(path, { method: "POST", body, headers: typeof body === "string" ? { "Content-Type": "application/json" } : {} });

// A repeated request carries the same uuid, so that no mark is written twice.
export async function sendMark(mark: Mark): Promise<void> {
  const body = JSON.stringify([mark]);
  try {
    await post("api/marks", body);
  } catch (error) {
    if (!(error instanceof Outage)) throw error;
    await new Promise((resolve) => setTimeout(resolve, 1000));
    await post("api/marks", body);
  }
}

// `crypto.randomUUID` exists in secure contexts only; a page behind a host name is none.
export function uuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
