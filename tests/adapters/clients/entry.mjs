export { HttpAgent } from "@ag-ui/client";
export { AbstractChat, DefaultChatTransport, readUIMessageStream } from "ai";
