module weir/tests/clients/gosuite

go 1.26.0
