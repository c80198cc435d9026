def test_select(endpoint, noise):
    with endpoint.connect() as wire:
        assert wire.rows("select 1") == [("1",)]
