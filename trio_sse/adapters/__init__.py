"""Runs in the protocols of others: one module for each, of which you import the one that your clients speak.

==================  ==========================================================================================
`openai_chat`       OpenAI's chat completions, `POST /v1/chat/completions`
`openai_responses`  OpenAI's Responses API, `POST /v1/responses`, with background and resume
`ai_sdk`            the UI message stream of Vercel's AI SDK, for `useChat`
`ag_ui`             AG-UI, the Agent-User Interaction Protocol
==================  ==========================================================================================

Each class has handlers for routes of a `Server`, of `QuartSSE` and of `event_stream`. They need nothing but
this package.
"""
